"""An answer that counts as right, the original's or a reference's: errors and decisions refer to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.proof.metrics import Mask

Outputs = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Answer:
    """What is right for one request, a batch of one: what the original gives, or a reference in its place.

    Attributes:
        outputs: by name.
        mask: bool[L], true for its real tokens; None: all rows of outputs [1, L, ...] are real.
        inputs: the request itself, by name.
        own: what the original gives, where a reference's answers count; None: `outputs`, bit for bit.
        values: what was taken from it (`onnx_memo.proof.values`): an original's answer is asked many times.
    """

    outputs: Outputs = field(repr=False)
    mask: Mask | None = field(repr=False, default=None)
    inputs: Outputs = field(repr=False, default_factory=dict)
    own: Outputs | None = field(repr=False, default=None)
    values: dict[object, Any] = field(repr=False, compare=False, default_factory=dict)

    def giving(self, outputs: Outputs) -> Answer:
        """Another answer to the same request."""
        return replace(self, outputs=outputs, own=None, values={})

    @property
    def original(self) -> Answer:
        """The original's answer, as one that counts as right."""
        return self if self.own is None else self.giving(self.own)

    def real(self, name: str) -> Mask | None:
        """Which rows of an output are real tokens."""
        return real_rows(self.outputs[name], self.mask)

    @property
    def floats(self) -> list[str]:
        """The outputs that hold floats, and any at all."""
        return [n for n, o in self.outputs.items() if np.issubdtype(o.dtype, np.floating) and o.size]


def pooled(answer: Answer) -> Answer:
    """The same, small enough to keep many: outputs of tokens are averaged over the real ones, in float64.

    But those of one number a token stay as they are.
    """
    outputs = {}
    for name in answer.floats:
        output, real = answer.outputs[name], answer.real(name)
        if output.ndim == 3 and output.shape[-1] > 1 and real is not None and len(real) == output.shape[1]:
            output = output[:, real].mean(axis=1, dtype=np.float64)
        outputs[name] = output
    return answer.giving(outputs or answer.outputs)


def real_rows(output: npt.NDArray[Any], mask: Mask | None) -> Mask | None:
    """The mask, bool[L], for one row of the batch of an output.

    Where the model has none, all tokens of an output [B, L, d] are real.
    """
    if mask is None and output.ndim == 3:
        return np.ones(output.shape[1], np.bool_)
    return mask
