"""All forms, by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tools.forms import layouts, quantized
from tools.forms.architectures import OTHERS, TEXT
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
HEADS, LAYOUT = "with heads", "fixed sizes, and other files"
ARCHITECTURES, OTHER_INPUTS = "architectures of text", "of pictures, sound, and two towers"
MADE_OF = "what is made of architectures"
TASKS = ("feature-extraction", "text-classification", "token-classification", "fill-mask")
FIXED = {
    "fixed-length": ((1,), "torchscript, the length fixed"),
    "fixed-batch": ((0,), "torchscript, the batch fixed at 1"),
    "fixed": ((0, 1), "torchscript, both fixed"),
}
EXPORTERS = (
    ("optimum", "optimum", 17),
    ("torchscript", "torchscript", 17),
    ("dynamo", "dynamo", 20),
    ("dynamo-23", "dynamo", 23),
)
# What the transformers optimizer calls them, and what is tried of them beside their exports.
KINDS = {
    "distilbert": "bert",
    "roberta": "bert",
    "mpnet": "bert",
    "deberta-v2": "bert",
    "gpt2": "gpt2",
    "llama": "gpt2",
    "vit": "vit",
}
OF_ARCHITECTURES = ("fused", "fused-fp16", "saved-extended", "fp16", "nbits-4", "int8", "int8-extended")
FEW = {False: (11, 20), True: (20, 23)}
FUSED_SINCE = 14  # the opset that scaled_dot_product_attention is exported for


def _derived(body: str) -> Iterator[Form]:
    """Whatever is made of the export through optimum."""
    for family, recipes in FAMILIES.items():
        for name, recipe in recipes.items():
            yield _form(body, name, family, recipe.how, partial(_make_derived, body, "bert", recipe))


def _make_derived(body: str, kind: str, recipe: Recipe, to: Path, kitchen: Kitchen) -> None:
    scale = kitchen.scale
    heads, width = (12, 384) if body == "minilm" else (scale.heads, scale.width)
    recipe.make(Base(kitchen.made(body), heads, width, kind), to / MODEL)


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
    """Straight from PyTorch's exporters; of the trained model, which takes long to try, a few."""
    few = body == "minilm"
    for dynamo, opsets in OPSETS.items():
        exporter = "dynamo" if dynamo else "torchscript"
        cases: dict[str, tuple[str, dict[str, Any]]] = {}
        for opset in FEW[dynamo] if few else opsets:
            if opset >= FUSED_SINCE:
                cases[str(opset)] = f"opset {opset}", {"opset": opset}
            else:
                how = f"opset {opset}, attention `eager`"
                cases[str(opset)] = how, {"opset": opset, "attention": "eager"}
        if not few:
            cases["eager"] = "opset 18, attention `eager`", {"attention": "eager"}
            for dtype in ("float16", "bfloat16"):
                cases[dtype] = f"opset 18, weights of {dtype}", {"dtype": dtype}
        for pool in ("normalized",) if few else POOLS:
            cases[pool] = f"opset 18, pooling `{pool}`", {"pool": pool}
        for name, (how, options) in cases.items():
            make = by_torch("bases", "make_plain", body=body, dynamo=dynamo, **{"opset": 18} | options)
            family = POOLED if name in POOLS else EXPORTED
            form = _form(body, f"{exporter}-{name}", family, f"{exporter}, {how}", make)
            yield replace(form, side="left" if name == "left" else "right")


def _heads() -> Iterator[Form]:
    """BERT with the heads of tasks, through optimum."""
    for task in TASKS:
        make = by_torch("random_weights", "make_head", task=task)
        how = f"optimum, opset 17, {task}" + (" and a pooler" if task == "feature-extraction" else "")
        yield Form(f"bert-{task}", HEADS, how, make)


def _architectures() -> Iterator[Form]:
    """Each architecture through each exporter; of some, what is made of them."""
    for family, architectures in ((ARCHITECTURES, TEXT), (OTHER_INPUTS, OTHERS)):
        for name, of in architectures.items():
            common: dict[str, Any] = {"shapes": of.shapes, "pad": of.pad}
            for label, exporter, opset in EXPORTERS:
                if exporter == "optimum" and of.task is None:
                    continue
                make = by_torch("random_weights", "make", name=name, exporter=exporter, opset=opset)
                yield Form(f"{name}-{label}", family, f"{exporter}, opset {opset}", make, **common)
    for name, kind in KINDS.items():
        of = {**TEXT, **OTHERS}[name]
        for label in OF_ARCHITECTURES:
            recipe = next(recipes[label] for recipes in FAMILIES.values() if label in recipes)
            make = partial(_make_derived, f"{name}-optimum", kind, recipe)
            yield Form(f"{name}-{label}", MADE_OF, recipe.how, make, shapes=of.shapes, pad=of.pad)


def _layouts() -> Iterator[Form]:
    """BERT with fixed sizes, and in other files."""
    for name, (fixed, how) in FIXED.items():
        make = by_torch("bases", "make_plain", body="bert", opset=17, dynamo=False, fixed=fixed)
        yield Form(f"bert-{name}", LAYOUT, how, make)
    for body in BODIES:
        for name, (how, lay, file) in layouts.LAYOUTS.items():
            form = _form(body, name, LAYOUT, how, partial(_lay, body, lay))
            yield replace(form, file=file)


def _lay(body: str, lay: Callable[[Path, Path], None], to: Path, kitchen: Kitchen) -> None:
    lay(kitchen.made(body), to)


def forms() -> dict[str, Form]:
    """All forms, by name."""
    how = "optimum, opset 17"
    bert = Form("bert", EXPORTED, how, by_torch("bases", "make_bert"))
    real = Form("minilm", EXPORTED, how, by_torch("bases", "make_minilm"), vocabulary=TABLE, real=True)
    of_bert = (*_exported("bert"), *_heads(), *_derived("bert"), *_layouts(), *_architectures())
    return by_name([bert], of_bert, [real], _exported("minilm"), _derived("minilm"))
