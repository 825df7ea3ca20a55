"""A whole encoder in 8 bits: its chains and their rounded products, as they are made, stored and read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import onnx_ir as ir

from onnx_memo.data.samples import Samples
from onnx_memo.graph.copies import Copy
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.operators.spec import PANEL
from onnx_memo.precision.chains import Chains, find_chains
from onnx_memo.precision.form import Form
from onnx_memo.precision.products import round_products
from onnx_memo.precision.rounding import Rounded
from onnx_memo.progress import Progress
from onnx_memo.runtime import library_path
from onnx_memo.store.data import ALIGNMENT, StoredTensor

# In the order in which `MemoProduct` reads them, and `coarse_product`.
PARTS = tuple(field.name for field in fields(Rounded))
COARSE = ("packed", "scales", "bias")
NO_PRODUCTS = "the encoder has no products of floats with constant weights"
APART = (8, 32)  # channels that stay in floats: in the fast way, and in the exact one


@dataclass(frozen=True)
class Whole:
    """What the form of an encoder is written from.

    Attributes:
        chains: of the original's encoder.
        rounded: the products, by the form's keys, in order.
        coarse: whether they are standard nodes (`onnx_memo.precision.nodes`), not operators.
    """

    chains: Chains
    rounded: Mapping[ir.Value, Rounded]
    coarse: bool = False

    @property
    def name(self) -> str:
        """For people."""
        if self.coarse:
            return "int8, coarse"
        apart = max((len(product.channels) for product in self.rounded.values()), default=0)
        return "int8" if apart <= APART[0] else f"int8, {apart} channels in floats"

    @property
    def parts(self) -> tuple[str, ...]:
        """What of each product is stored."""
        return COARSE if self.coarse else PARTS

    def tensors(self) -> list[StoredTensor]:
        """The products as they are stored."""
        return [
            StoredTensor.of(_name(number, part), getattr(product, part))
            for number, product in enumerate(self.rounded.values())
            for part in self.parts
        ]

    def in_copy(self, copy: Copy, tensors: Mapping[str, ir.TensorProtocol]) -> WholeInCopy:
        """The same in a copy of the original, with stored `tensors`."""
        numbers = range(len(self.rounded))
        stored = [[tensors[_name(number, part)] for part in self.parts] for number in numbers]
        products = dict(zip(copy.twin(list(self.rounded)), stored, strict=True))
        return WholeInCopy(copy.twin(self.chains), products, self.coarse)


@dataclass(frozen=True)
class WholeInCopy:
    """What the form of an encoder is written from, in a copy of the original.

    Attributes:
        chains: of the copy's encoder.
        products: what each reads beside rows, by the form's keys.
        coarse: as in `Whole`.
    """

    chains: Chains
    products: Mapping[ir.Value, Sequence[ir.TensorProtocol]]
    coarse: bool


class Rounding:
    """Rounds an encoder's products, when it is asked to, and each way once."""

    def __init__(self, opened: OpenedModel, samples: Samples, progress: Progress) -> None:
        """For rows like those of `samples`; the model has an encoder."""
        self._opened, self._samples, self._progress = opened, samples, progress
        self._made: dict[int, Whole] = {}

    def wholes(self) -> Iterator[Whole]:
        """The encoder in 8 bits, from fast to exact; none if it has no products of floats with constants.

        Each is rounded when it is first asked for. A coarse one comes first where no native library is:
        elsewhere it would not be faster.
        """
        if not self._chains.chains:
            return
        for apart in APART if library_path() else (0, *APART):
            if apart not in self._made:
                products = round_products(self._opened, self._chains, self._samples, apart, self._progress)
                self._made[apart] = Whole(self._chains, products, coarse=apart == 0)
            yield self._made[apart]

    @cached_property
    def _chains(self) -> Chains:
        return find_chains(self._opened)


def bytes_at_most(opened: OpenedModel) -> int:
    """What the products of the model's encoder take in 8 bits, at most; each tensor begins on a page."""
    form, total = Form(opened.encoder, find_chains(opened)), 0
    for task in form.tasks():
        inner = opened.encoder.shapes[task.x][-1]
        columns = sum(len(part.columns) for part in task.parts)
        packed = -(-columns // PANEL) * PANEL * inner
        apart = min(APART[-1], inner) * (columns * 4 + 8)  # with the channels' numbers
        total += packed + 3 * columns * 4 + apart + len(PARTS) * ALIGNMENT
    return total


def _name(number: int, part: str) -> str:
    return f"memo/int8/{number}.{part}"
