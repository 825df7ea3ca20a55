"""BERT-like encoders in PyTorch, layer by layer for any rows, and what an entry stores of a run."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional


class Encoder:
    """A BERT encoder with normalization behind each block, its weights read from the exported model."""

    def __init__(self, folder: Path, heads: int) -> None:
        graph = onnx.load(folder / "model.onnx").graph
        self.heads = heads
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.w = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
        reader = {name: node for node in graph.node for name in node.input}
        for node in graph.node:  # the exporter names matrices by number, and biases as they were
            if node.op_type == "MatMul" and node.input[1] in self.w:
                (bias,) = (name for name in reader[node.output[0]].input if name in self.w)
                self.w[bias.replace(".bias", ".weight")] = self.w[node.input[1]]
        self.layers = sum(name.endswith("query.bias") for name in self.w)

    def embed(self, line: str) -> Tensor:
        """The hidden states [n, d] at the encoder's input."""
        ids = torch.tensor(self.tokenizer.encode(line).ids)
        word, place, kind = (
            self.w[f"embeddings.{k}_embeddings.weight"] for k in ("word", "position", "token_type")
        )
        return self._norm(word[ids] + place[: len(ids)] + kind[0], "embeddings.LayerNorm")

    def project(self, layer: int, x: Tensor) -> list[Tensor]:
        """Query, key and value [H, R, d / H] of rows."""
        names = (f"encoder.layer.{layer}.attention.self.{k}" for k in ("query", "key", "value"))
        return [self._linear(x, name).view(len(x), self.heads, -1).transpose(0, 1) for name in names]

    def finish(self, layer: int, x: Tensor, probabilities: Tensor, value: Tensor) -> Tensor:
        """The rows behind the layer: what they attend to, projected and fed forward."""
        at = f"encoder.layer.{layer}."
        context = (probabilities @ value).transpose(0, 1).reshape(len(x), -1)
        x = self._norm(
            x + self._linear(context, f"{at}attention.output.dense"), f"{at}attention.output.LayerNorm"
        )
        inner = functional.gelu(self._linear(x, f"{at}intermediate.dense"))
        return self._norm(x + self._linear(inner, f"{at}output.dense"), f"{at}output.LayerNorm")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return torch.addmm(self.w[f"{name}.bias"], x, self.w[f"{name}.weight"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[1:], self.w[f"{name}.weight"], self.w[f"{name}.bias"], 1e-12)


def attention(query: Tensor, key: Tensor) -> Tensor:
    """The probabilities [H, R, n]."""
    return torch.softmax(query @ key.transpose(1, 2) / math.sqrt(query.shape[2]), -1)


@dataclass(frozen=True, eq=False)
class Entry:
    """One whole run, as an entry stores it: all but the final states in half precision."""

    states: list[Tensor]  # [n, d] before each layer
    keys: list[Tensor]  # [H, n, d / H]
    values: list[Tensor]
    attention: list[Tensor]  # [n, n], averaged over heads
    final: Tensor  # [n, d]

    @functools.cached_property
    def influence(self) -> Tensor:
        """Attention rollout (Abnar and Zuidema, 2020) of all layers: of row t by row j at [t, j]."""
        return self.rollout(0, len(self.states), 0.5)

    def at(self, depth: int) -> Tensor:
        """The states before layer `depth`; behind the last layer, the final ones."""
        return self.final if depth == len(self.states) else self.states[depth].float()

    def rollout(self, begin: int, end: int, keep: float) -> Tensor:
        """The product over layers from `begin` to before `end` of `keep` identity, the rest attention."""
        product = torch.eye(len(self.final))
        for probabilities in self.attention[begin:end]:
            product = (1 - keep) * (probabilities.float() @ product) + keep * product
        return product


def captured(encoder: Encoder, line: str, inner: torch.dtype = torch.float16) -> Entry:
    """The entry of a line; `inner`: the type of all but the final states."""
    entry = Entry([], [], [], [], x := encoder.embed(line))
    for layer in range(encoder.layers):
        query, key, value = encoder.project(layer, x)
        probabilities = attention(query, key)
        for kept, part in ((entry.states, x), (entry.keys, key), (entry.values, value)):
            kept.append(part.to(inner))
        entry.attention.append(probabilities.mean(0).to(inner))
        x = encoder.finish(layer, x, probabilities, value)
    return Entry(entry.states, entry.keys, entry.values, entry.attention, x)
