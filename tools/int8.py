"""The rival: a model quantized dynamically to int8, the way ONNX Runtime offers it without calibration."""

from __future__ import annotations

import logging
from pathlib import Path

import onnxruntime as ort

from models.fetch import SUMS, made_here, place, sha256, workspace, write_sums


def bring(model: Path) -> Path:
    """Make `int8/model.onnx` beside `model`, weights in int8 with a scale per channel; return its path.

    Activations are quantized at run time, per tensor. What is there already, made from the same model
    by the same ONNX Runtime, is not made again.
    """
    directory = model.parent / "int8"
    made_from = f"{model.name} {sha256(model)} by onnxruntime {ort.__version__} QInt8 per_channel"
    if not made_here(directory, made_from):
        with workspace(directory) as work:
            made = work / "model.onnx"
            _quantize(model, made)
            write_sums([made], made_from, work / SUMS)
            place([made, work / SUMS], directory)
    return directory / "model.onnx"


def _quantize(model: Path, to: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it recommends preprocessing, which changes nothing for these models
    try:
        quantize_dynamic(model, to, weight_type=QuantType.QInt8, per_channel=True)
    finally:
        logger.setLevel(level)
