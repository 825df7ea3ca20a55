"""Models of half precision, made of the fixtures as people make them: by ONNX Runtime's own converter."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from support import fixture


def halved(name: str, folder: Path, *, length: int | None = None, apart: bool = False) -> Path:
    """The model of a fixture in half precision, its inputs and outputs in floats, written to `folder`.

    Args:
        name: of the fixture.
        folder: where it is written.
        length: sizes of its inputs that are stated: a batch of one, and so many tokens; None: left free.
        apart: whether its weights lie in a file beside it.
    """
    converter = pytest.importorskip("onnxruntime.transformers.float16")
    model = onnx.load(fixture(name))
    if length is not None:
        for given in model.graph.input:
            for dim, size in zip(given.type.tensor_type.shape.dim, (1, length), strict=True):
                dim.dim_value = size
    model = converter.convert_float_to_float16(model, keep_io_types=True)
    path = folder / f"{name}.onnx"
    onnx.save_model(
        model, path, save_as_external_data=apart, location=f"{name}.data" if apart else None, size_threshold=0
    )
    return path
