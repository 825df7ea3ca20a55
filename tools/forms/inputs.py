"""Random inputs of any model: what each input takes is seen from its name, type and shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from onnx_memo.data.samples import Arrays
from tools.forms.form import Form, Scale

FIRST = 5  # tokens below are special
TYPES = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}


class Inputs:
    """Draws samples (a batch of one, without padding) and joins them to requests.

    Raises:
        KeyError: the model has an input of another type.
    """

    def __init__(self, session: ort.InferenceSession, form: Form, scale: Scale) -> None:
        self.form, self.shapes = form, form.shapes(scale)
        self.vocabulary = form.vocabulary or scale.vocabulary
        self.inputs = [(node.name, TYPES[node.type], node.shape[1:]) for node in session.get_inputs()]
        self.masked = any("mask" in name for name, _, _ in self.inputs)
        fixed = [dims[0] for name, _, dims in self.inputs if name.endswith("_ids") and len(dims) == 1]
        self.longest = min((size for size in fixed if isinstance(size, int)), default=None)

    def samples(self, lengths: Sequence[int], seed: int) -> list[Arrays]:
        """A sample of each length; models without a mask are given one length, the longest."""
        rng = np.random.default_rng(seed)
        given = lengths if self.masked else [max(lengths)] * len(lengths)
        if self.longest is not None:
            given = [min(length, self.longest) for length in given]
        return [
            {name: self._one(name, dtype, dims, length, rng) for name, dtype, dims in self.inputs}
            for length in given
        ]

    def _one(self, name: str, dtype: Any, dims: Sequence[Any], length: int, rng: np.random.Generator) -> Any:
        if name in self.shapes:
            return rng.standard_normal((1, *self.shapes[name])).astype(dtype)
        if len(dims) != 1:
            shape = (1, *(dim if isinstance(dim, int) else length for dim in dims))
            ones = "mask" in name
            return np.ones(shape, dtype) if ones else rng.standard_normal(shape).astype(dtype)
        if "mask" in name:
            row = np.ones(length, dtype)
        elif name.endswith("token_type_ids"):
            row = np.zeros(length, dtype)
        elif name.endswith("position_ids"):
            row = np.arange(length, dtype=dtype)
        elif np.issubdtype(dtype, np.integer):
            row = rng.integers(FIRST, self.vocabulary, length).astype(dtype)
        else:
            row = rng.standard_normal(length).astype(dtype)
        return self._padded(name, row, dims[0] if isinstance(dims[0], int) else length, "right")[None]

    def joined(self, samples: Sequence[Arrays], side: str = "right") -> Arrays:
        """One request of all samples, padded to the longest on that side."""
        request: Arrays = {}
        for name in samples[0]:
            rows = [sample[name][0] for sample in samples]
            if rows[0].ndim == 1:
                longest = max(map(len, rows))
                rows = [self._padded(name, row, longest, side) for row in rows]
            request[name] = np.stack(rows)
        return request

    def _padded(self, name: str, row: Any, length: int, side: str) -> Any:
        gap = length - len(row)
        pad = self.form.pad if name.endswith("input_ids") else 0
        return np.pad(row, (gap, 0) if side == "left" else (0, gap), constant_values=pad)
