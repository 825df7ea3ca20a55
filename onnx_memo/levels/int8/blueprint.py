"""The guard of an encoder in 8 bits, built from rounded weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph.copies import Copy
from onnx_memo.graph.encoder import Encoder
from onnx_memo.levels.int8.guard import NAME, insert_int8_guard
from onnx_memo.precision.tables import Tables
from onnx_memo.precision.whole import Whole
from onnx_memo.store.data import StoredTensor
from onnx_memo.store.manifest import GuardedSite


@dataclass(frozen=True)
class Int8Blueprint:
    """What the guard is built from.

    Attributes:
        encoder: in the original model.
        whole: what it becomes.
        compact: the original's tables in 8 bits, if its other weights are left out.
    """

    encoder: Encoder
    whole: Whole
    compact: Tables | None = None

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """No entries."""
        return np.zeros(0, np.int64)

    def tensors(self, scratch: Path, notes: list[str]) -> list[StoredTensor]:
        """The weights."""
        return self.whole.tensors() + ([] if self.compact is None else self.compact.tensors())

    def insert(self, copy: Copy, tensors: Mapping[str, ir.TensorProtocol], apart: bool = True) -> None:
        """Guard a copy of the original model. Nothing is reused, so nothing runs apart."""
        del apart
        whole = self.whole.in_copy(copy, tensors)
        if self.compact is not None:
            self.compact.insert(copy, tensors)
        insert_int8_guard(copy.model, copy.twin(self.encoder), whole, compact=self.compact is not None)

    def guarded(self) -> list[GuardedSite]:
        """The guard, as the manifest lists it."""
        return [
            GuardedSite(
                NAME, "", "int8", 0.0, False, self.encoder.heads, self.encoder.width, self.encoder.share
            )
        ]
