"""Forms that optimizers write: ONNX Runtime's transformers optimizer, ONNX Runtime itself, and others."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from tools.forms.form import MODEL


@dataclass(frozen=True)
class Base:
    """A model that others are made from; `kind` as the transformers optimizer names it."""

    path: Path
    heads: int
    width: int
    kind: str = "bert"


@dataclass(frozen=True)
class Recipe:
    """How a form is made from a base: `make` writes it to a path."""

    how: str
    make: Callable[[Base, Path], None]


def optimized(base: Base, level: int = 0, **options: bool) -> Any:
    """The model as `onnxruntime.transformers.optimizer` fuses it, an `OnnxModel`."""
    optimizer: Any = importlib.import_module("onnxruntime.transformers.optimizer")
    fusion: Any = importlib.import_module("onnxruntime.transformers.fusion_options")
    chosen = fusion.FusionOptions(base.kind)
    for name, value in options.items():
        assert hasattr(chosen, name), name
        setattr(chosen, name, value)
    return optimizer.optimize_model(
        str(base.path), base.kind, base.heads, base.width, optimization_options=chosen, opt_level=level
    )


def fuse(level: int = 0, **options: bool) -> Callable[[Base, Path], None]:
    """By the transformers optimizer, in fp32."""
    return lambda base, to: optimized(base, level, **options).save_model_to_file(str(to))


def fuse_halves(keep: bool) -> Callable[[Base, Path], None]:
    """By the transformers optimizer, with its conversion to half precision."""

    def make(base: Base, to: Path) -> None:
        model = optimized(base)
        model.convert_float_to_float16(keep_io_types=keep)
        model.save_model_to_file(str(to))

    return make


def saved(level: str) -> Callable[[Base, Path], None]:
    """As ONNX Runtime writes what it made of a model (`optimized_model_filepath`)."""

    def make(base: Base, to: Path) -> None:
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
        options.optimized_model_filepath = str(to)
        options.log_severity_level = 3
        ort.InferenceSession(base.path, options, providers=["CPUExecutionProvider"])

    return make


def optimum_optimized(level: str) -> Callable[[Base, Path], None]:
    """By optimum's `ORTOptimizer`."""

    def make(base: Base, to: Path) -> None:
        optimum: Any = importlib.import_module("optimum.onnxruntime")
        optimizer = optimum.ORTOptimizer.from_pretrained(base.path.parent, file_names=[MODEL])
        config = getattr(optimum.AutoOptimizationConfig, level)()
        optimizer.optimize(config, to.parent, file_suffix="")

    return make


def slim(base: Base, to: Path) -> None:
    """By onnxslim."""
    onnxslim: Any = importlib.import_module("onnxslim")
    onnx.save(onnxslim.slim(str(base.path)), to)


FUSED = {
    "fused": Recipe("`onnxruntime.transformers.optimizer`, opt_level 0", fuse(0)),
    "fused-1": Recipe("the same, opt_level 1", fuse(1)),
    "fused-99": Recipe("the same, opt_level 99", fuse(99)),
    "fused-mha": Recipe("opt_level 0, `use_multi_head_attention`", fuse(0, use_multi_head_attention=True)),
    "fused-no-embed": Recipe("opt_level 0, embeddings left alone", fuse(0, enable_embed_layer_norm=False)),
    "fused-gelu": Recipe("opt_level 0, `enable_gelu_approximation`", fuse(0, enable_gelu_approximation=True)),
    "fused-fp16": Recipe("opt_level 0, then float16, `keep_io_types=True`", fuse_halves(True)),
    "fused-fp16-io": Recipe("opt_level 0, then float16, `keep_io_types=False`", fuse_halves(False)),
    "optimum-o1": Recipe("optimum `ORTOptimizer` O1", optimum_optimized("O1")),
    "optimum-o2": Recipe("optimum `ORTOptimizer` O2", optimum_optimized("O2")),
    "optimum-o3": Recipe("optimum `ORTOptimizer` O3", optimum_optimized("O3")),
    "optimum-o4": Recipe("optimum `ORTOptimizer` O4", optimum_optimized("O4")),
    "saved-basic": Recipe("saved by ONNX Runtime at `basic`", saved("BASIC")),
    "saved-extended": Recipe("saved by ONNX Runtime at `extended`", saved("EXTENDED")),
    "saved-all": Recipe("saved by ONNX Runtime at `all`", saved("ALL")),
    "slim": Recipe("onnxslim", slim),
}
