"""The small BERT and the trained MiniLM that most forms are made from."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

from models import minilm
from models.bring import CACHE
from tools.export_fixtures import export_folder_with_optimum, seeded, strip_notes
from tools.forms.configurations import text
from tools.forms.exports import BATCH, TOKENS, Head, example, export
from tools.forms.form import KEPT, MODEL, Kitchen, Scale

transformers: Any = importlib.import_module("transformers")  # without types


def random_bert(scale: Scale, attention: str = "sdpa") -> Any:
    """BERT without a pooler, its weights random."""
    config = transformers.BertConfig(**text(scale))
    config._attn_implementation = attention
    return seeded(lambda: transformers.BertModel(config, add_pooling_layer=False))


def trained_minilm(_: Scale, attention: str = "sdpa") -> Any:
    """all-MiniLM-L6-v2, as it was published."""
    source = KEPT / "minilm-source"
    if not source.is_dir():
        KEPT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=KEPT) as work:
            part = Path(work) / "source"
            minilm.bring_source(part, Path(work))
            os.replace(part, source)
    return transformers.AutoModel.from_pretrained(
        source, add_pooling_layer=False, attn_implementation=attention
    ).eval()


BODIES = {"bert": random_bert, "minilm": trained_minilm}


def make_bert(to: Path, kitchen: Kitchen) -> None:
    """BERT through optimum, opset 17: input_ids, attention_mask, token_type_ids."""
    export_folder_with_optimum(random_bert(kitchen.scale), to)
    strip_notes(to / MODEL)


def make_minilm(to: Path, kitchen: Kitchen) -> None:
    """MiniLM through optimum, opset 17; with the configuration that optimum's tools want beside it."""
    folder = minilm.bring(CACHE)
    shutil.copyfile(folder / MODEL, to / MODEL)
    shutil.copyfile(folder / "tokenizer.json", to / "tokenizer.json")
    transformers.BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    ).save_pretrained(to)


def mean(states: Any, mask: Any) -> Any:
    """The mean over real tokens, as sentence-transformers has it."""
    real = mask.unsqueeze(-1).expand(states.size()).float()
    return (states * real).sum(1) / torch.clamp(real.sum(1), min=1e-9)


def normalized_mean(states: Any, mask: Any) -> Any:
    """The same, of length 1."""
    return torch.nn.functional.normalize(mean(states, mask), p=2, dim=1)


def first(states: Any, mask: Any) -> Any:
    """The first token's state."""
    return states[:, 0]


def largest(states: Any, mask: Any) -> Any:
    """The maximum over real tokens, as sentence-transformers has it."""
    return states.masked_fill(mask.unsqueeze(-1) == 0, -1e9).max(1).values


def last(states: Any, mask: Any) -> Any:
    """The last real token's state."""
    return states[torch.arange(states.shape[0]), mask.sum(1) - 1]


def very_last(states: Any, mask: Any) -> Any:
    """The last token's state, where requests are padded on the left."""
    return states[:, -1]


POOLS = {
    "mean": mean,
    "normalized": normalized_mean,
    "cls": first,
    "max": largest,
    "last": last,
    "left": very_last,
}


def make_plain(
    to: Path,
    kitchen: Kitchen,
    *,
    body: str,
    opset: int,
    dynamo: bool,
    pool: str | None = None,
    attention: str = "sdpa",
    fixed: Sequence[int] = (),
    dtype: str = "float32",
) -> None:
    """BERT of token ids and a mask through PyTorch's exporters."""
    made = BODIES[body](kitchen.scale, attention).to(getattr(torch, dtype))
    head = Head(made, TOKENS, None if pool is None else POOLS[pool])
    output = "last_hidden_state" if pool is None else "sentence_embedding"
    inputs = example(TOKENS, {}, batch=1 if 0 in fixed else BATCH)
    export(head, inputs, [output], to, opset=opset, dynamo=dynamo, fixed=fixed)
