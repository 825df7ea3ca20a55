"""A whole encoder in 8 bits: its chains and their rounded products, as they are made, stored and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import onnx_ir as ir

from onnx_memo.data.samples import Samples
from onnx_memo.graph.opened import Copy, OpenedModel
from onnx_memo.operators.spec import PANEL
from onnx_memo.precision.chains import Chains, find_chains
from onnx_memo.precision.form import Form
from onnx_memo.precision.products import APART, round_products
from onnx_memo.precision.rounding import Rounded
from onnx_memo.progress import Progress
from onnx_memo.store.data import ALIGNMENT, StoredTensor

PARTS = tuple(field.name for field in fields(Rounded))  # in the order in which `MemoProduct` reads them

# What each product reads beside rows, by the form's keys.
Products = Mapping[ir.Value, Sequence[ir.TensorProtocol]]


@dataclass(frozen=True)
class Whole:
    """What the form of an encoder is written from.

    Attributes:
        chains: of the original's encoder.
        rounded: the products, by the form's keys, in order.
    """

    chains: Chains
    rounded: Mapping[ir.Value, Rounded]

    def tensors(self) -> list[StoredTensor]:
        """The products as they are stored."""
        return [
            StoredTensor.of(_name(number, part), getattr(product, part))
            for number, product in enumerate(self.rounded.values())
            for part in PARTS
        ]

    def in_copy(self, copy: Copy, tensors: Mapping[str, ir.TensorProtocol]) -> tuple[Chains, Products]:
        """The chains of a copy of the original, and what its products read of the stored `tensors`."""
        stored = [[tensors[_name(number, part)] for part in PARTS] for number in range(len(self.rounded))]
        return copy.twin(self.chains), dict(zip(copy.twin(list(self.rounded)), stored, strict=True))


class Rounding:
    """Rounds an encoder's products, when it is asked to, and once."""

    def __init__(self, opened: OpenedModel, samples: Samples, progress: Progress) -> None:
        """For rows like those of `samples`; the model has an encoder."""
        self._opened, self._samples, self._progress = opened, samples, progress

    @cached_property
    def whole(self) -> Whole | None:
        """The encoder in 8 bits; None if it has no products of floats with constant weights."""
        chains = find_chains(self._opened)
        if not chains.chains:
            return None
        return Whole(chains, round_products(self._opened, chains, self._samples, self._progress))


def bytes_at_most(opened: OpenedModel) -> int:
    """What the products of the model's encoder take in 8 bits, at most; each tensor begins on a page."""
    form, total = Form(opened.encoder, find_chains(opened)), 0
    for task in form.tasks():
        inner = opened.encoder.shapes[str(task.x.name)][-1]
        columns = sum(len(part.columns) for part in task.parts)
        packed = -(-columns // PANEL) * PANEL * inner
        apart = APART * (columns * 4 + 8)  # with the channels' numbers
        total += packed + 3 * columns * 4 + apart + len(PARTS) * ALIGNMENT
    return total


def _name(number: int, part: str) -> str:
    return f"memo/int8/{number}.{part}"
