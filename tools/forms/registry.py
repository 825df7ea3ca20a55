"""All forms, by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tools.forms import quantized
from tools.forms.form import MODEL, Form, Kitchen, by_name
from tools.forms.fused import FUSED, Base, Recipe

EXPORTED = "exported by PyTorch"
POOLED = "pooled inside"
FAMILIES: Mapping[str, Mapping[str, Recipe]] = {
    "fused, and saved by ONNX Runtime": FUSED,
    "half precision": quantized.HALVES,
    "4 bits, and 8 bits in blocks": quantized.BITS4,
    "8 bits": quantized.INT8,
}
OPSETS = {False: (11, 12, 14, 17, 18, 20), True: (18, 20, 23, 24)}  # by whether the exporter is dynamo
BODIES = ("bert", "minilm")
POOLS = ("mean", "normalized", "cls", "max", "last", "left")  # of `tools.forms.bases`
TABLE = 30522  # tokens of MiniLM
Maker = Callable[[Path, Kitchen], None]
FUSED_SINCE = 14  # the opset that scaled_dot_product_attention is exported for


def _derived(body: str) -> Iterator[Form]:
    """Whatever is made of the export through optimum."""
    for family, recipes in FAMILIES.items():
        for name, recipe in recipes.items():
            make = partial(_make_derived, body, recipe)
            yield _form(body, name, family, recipe.how, make)


def _make_derived(body: str, recipe: Recipe, to: Path, kitchen: Kitchen) -> None:
    scale = kitchen.scale
    heads, width = (12, 384) if body == "minilm" else (scale.heads, scale.width)
    recipe.make(Base(kitchen.made(body), heads, width), to / MODEL)


def _form(body: str, name: str, family: str, how: str, make: Maker) -> Form:
    real = body == "minilm"
    vocabulary = TABLE if real else None
    return Form(f"{body}-{name}", family, how, make, vocabulary=vocabulary, real=real)


def by_torch(module: str, function: str, **options: Any) -> Maker:
    """A maker that lies in a module which needs PyTorch: imported when it makes something."""

    def make(to: Path, kitchen: Kitchen) -> None:
        found = importlib.import_module(f"tools.forms.{module}")
        getattr(found, function)(to, kitchen, **options)

    return make


def _exported(body: str) -> Iterator[Form]:
    """Straight from PyTorch's exporters."""
    for dynamo, opsets in OPSETS.items():
        exporter = "dynamo" if dynamo else "torchscript"
        for opset in opsets:
            attention = "sdpa" if opset >= FUSED_SINCE else "eager"
            make = by_torch("bases", "make_plain", body=body, opset=opset, dynamo=dynamo, attention=attention)
            how = f"{exporter}, opset {opset}" + (", attention `eager`" if attention == "eager" else "")
            yield _form(body, f"{exporter}-{opset}", EXPORTED, how, make)
        make = by_torch("bases", "make_plain", body=body, opset=18, dynamo=dynamo, attention="eager")
        yield _form(body, f"{exporter}-eager", EXPORTED, f"{exporter}, opset 18, attention `eager`", make)
        for pool in POOLS:
            make = by_torch("bases", "make_plain", body=body, opset=18, dynamo=dynamo, pool=pool)
            how = f"{exporter}, opset 18, pooling `{pool}`"
            yield _form(body, f"{exporter}-{pool}", POOLED, how, make)


def forms() -> dict[str, Form]:
    """All forms, by name."""
    plain = (
        Form("bert", EXPORTED, "optimum, opset 17", by_torch("bases", "make_bert")),
        Form(
            "minilm",
            EXPORTED,
            "optimum, opset 17",
            by_torch("bases", "make_minilm"),
            vocabulary=TABLE,
            real=True,
        ),
    )
    return by_name(plain, *(make(body) for body in BODIES for make in (_exported, _derived)))
