"""Exports of `tools.forms.architectures`, with seeded random weights."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

from tools.export_fixtures import export_folder_with_optimum, seeded, strip_notes
from tools.forms.architectures import OTHERS, TEXT, Architecture
from tools.forms.configurations import text
from tools.forms.exports import example, export
from tools.forms.form import MODEL, Kitchen, Scale

transformers: Any = importlib.import_module("transformers")  # without types


class _Call(torch.nn.Module):
    """A model that takes its inputs by position and returns some of what it makes."""

    def __init__(self, body: Any, of: Architecture) -> None:
        super().__init__()
        self.body, self.of = body, of

    def forward(self, *inputs: torch.Tensor) -> Any:
        """The outputs of the architecture that are kept."""
        found = self.body(**dict(zip(self.of.names, inputs, strict=True)), **self.of.fixed)
        kept = tuple(getattr(found, name) for name in self.of.outputs)
        return kept if len(kept) > 1 else kept[0]


def build(of: Architecture, scale: Scale, attention: str | None = None) -> Any:
    """The model, its weights random."""
    kind = getattr(transformers, of.model)
    config_class = getattr(transformers, of.config) if of.config else kind.config_class
    config = config_class(**of.options(scale))
    if attention is not None:
        config._attn_implementation = attention
    return seeded(lambda: kind(config))


def make(
    to: Path, kitchen: Kitchen, *, name: str, exporter: str, opset: int, attention: str | None = None
) -> None:
    """Export the architecture of that name: `exporter` is `optimum`, `torchscript` or `dynamo`."""
    of = {**TEXT, **OTHERS}[name]
    model = build(of, kitchen.scale, attention)
    if exporter == "optimum":
        assert of.task is not None
        export_folder_with_optimum(model, to, of.task, opset)
        strip_notes(to / MODEL)
        return
    body = model.encoder if name == "whisper-encoder" else model
    export(
        _Call(body, of),
        example(of.names, of.shapes(kitchen.scale)),
        of.outputs,
        to,
        opset=opset,
        dynamo=exporter == "dynamo",
    )


HEADS = {
    "text-classification": "BertForSequenceClassification",
    "token-classification": "BertForTokenClassification",
    "fill-mask": "BertForMaskedLM",
    "feature-extraction": "BertModel",
}


def make_head(to: Path, kitchen: Kitchen, *, task: str) -> None:
    """BERT with the head of a task (a pooler, for features) through optimum."""
    config = transformers.BertConfig(**text(kitchen.scale), num_labels=5)
    model = seeded(lambda: getattr(transformers, HEADS[task])(config))
    export_folder_with_optimum(model, to, task)
    strip_notes(to / MODEL)
