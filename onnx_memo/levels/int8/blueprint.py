"""The guard of an encoder in 8 bits, built from rounded weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.opened import Copy
from onnx_memo.levels.int8.guard import NAME, insert_int8_guard
from onnx_memo.precision.chains import Chains
from onnx_memo.precision.rounding import Rounded
from onnx_memo.store.data import StoredTensor
from onnx_memo.store.manifest import GuardedSite

PARTS = tuple(field.name for field in fields(Rounded))  # in the order in which `MemoProduct` reads them


@dataclass(frozen=True)
class Int8Blueprint:
    """What the guard is built from.

    Attributes:
        encoder: in the original model.
        chains: of that encoder.
        rounded: the products, by the form's keys, in order.
    """

    encoder: Encoder
    chains: Chains
    rounded: Mapping[ir.Value, Rounded]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """No entries."""
        return np.zeros(0, np.int64)

    def tensors(self, scratch: Path, notes: list[str]) -> list[StoredTensor]:
        """The weights."""
        return product_tensors(self.rounded)

    def insert(self, copy: Copy, tensors: Mapping[str, ir.TensorProtocol]) -> None:
        """Guard a copy of the original model."""
        products = dict(zip(copy.twin(list(self.rounded)), named(len(self.rounded), tensors), strict=True))
        insert_int8_guard(copy.model, copy.twin(self.encoder), copy.twin(self.chains), products)

    def guarded(self) -> list[GuardedSite]:
        """The guard, as the manifest lists it."""
        heads = self.encoder.cores[0].heads
        return [GuardedSite(NAME, "", "int8", 0.0, False, heads, self.encoder.width, self.encoder.share)]


def product_tensors(rounded: Mapping[ir.Value, Rounded]) -> list[StoredTensor]:
    """Products as they are stored."""
    return [
        StoredTensor.of(_name(number, part), getattr(product, part))
        for number, product in enumerate(rounded.values())
        for part in PARTS
    ]


def named(count: int, tensors: Mapping[str, ir.TensorProtocol]) -> list[list[ir.TensorProtocol]]:
    """Of each of the stored products what `MemoProduct` reads."""
    return [[tensors[_name(number, part)] for part in PARTS] for number in range(count)]


def _name(number: int, part: str) -> str:
    return f"memo/int8/{number}.{part}"
