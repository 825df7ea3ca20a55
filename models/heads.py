"""A classifier and a reranker, made here: the demo encoder with small heads, fitted in NumPy.

Both have the demo model's inputs, input_ids, attention_mask and token_type_ids: int64 [batch, length], and
the output `logits`, float32: [batch, classes] by the mean of the token states, and [batch, 1] for a pair of
texts, [CLS] a [SEP] b [SEP], by the first state and the mean.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from models import chatterbot, demo
from models.fetch import SUMS, made_here, place, workspace, write_sums

RIDGE = 0.03  # of a feature's variance
HELD_BACK = 5  # each fifth text or pair is not fitted, but says how good the head is
NEAR = (1, 6, 60)  # ranks among the other texts: those between are partners of a text
MADE_FROM = f"{demo.HASHES['model.onnx']} and {chatterbot.HASHES[chatterbot.LABELLED]}, version 2"

FloatArray = npt.NDArray[np.float64]
Text = str | tuple[str, str]


class Encoder:
    """The encoder whose states the heads read, and its tokenizer."""

    def __init__(self, directory: Path):
        self.model = onnx.load(directory / "model.onnx")
        self.tokenizer = directory / "tokenizer.json"
        self._tokenizer = Tokenizer.from_file(str(self.tokenizer))
        self._tokenizer.no_padding()
        self._session = ort.InferenceSession(
            str(directory / "model.onnx"), providers=["CPUExecutionProvider"]
        )

    def features(self, texts: Sequence[Text]) -> FloatArray:
        """The first state of each text or pair, then the mean of all its states: [n, 2 * width]."""
        found = []
        for encoding in self._tokenizer.encode_batch(list(texts)):
            fields = (encoding.ids, encoding.attention_mask, encoding.type_ids)
            names = ("input_ids", "attention_mask", "token_type_ids")
            feeds = {name: np.asarray([row], np.int64) for name, row in zip(names, fields, strict=True)}
            states = self._session.run(None, feeds)[0][0].astype(np.float64)
            found.append(np.concatenate([states[0], states.mean(axis=0)]))
        return np.stack(found)

    def means(self, texts: Sequence[Text]) -> FloatArray:
        """The mean of each text's states: [n, width]."""
        both = self.features(texts)
        return both[:, both.shape[1] // 2 :]


def ridge(features: FloatArray, targets: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weights [f, t] and bias [t] of the ridge regression of targets [n, t] on features [n, f].

    The penalty is `RIDGE` of each feature's variance (Hoerl and Kennard, 1970); the bias has none.
    """
    middle, spread = features.mean(axis=0), features.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    scaled = (features - middle) / scale
    square = scaled.T @ scaled / len(scaled) + RIDGE * np.eye(len(middle))
    weights = np.linalg.solve(square, scaled.T @ (targets - targets.mean(axis=0)) / len(scaled))
    weights /= scale[:, None]
    return weights, targets.mean(axis=0) - middle @ weights


def with_head(encoder: onnx.ModelProto, weights: FloatArray, bias: FloatArray) -> onnx.ModelProto:
    """The encoder with `logits` in place of its states: a linear head on the states, pooled.

    Weights [width, t] read the mean of the real tokens' states; [2 * width, t] the first state and the mean.
    """
    model = onnx.ModelProto()
    model.CopyFrom(encoder)
    graph = model.graph
    states, mask = graph.output[0].name, "attention_mask"
    width = graph.output[0].type.tensor_type.shape.dim[2].dim_value
    constants: dict[str, npt.NDArray[Any]] = {
        "tokens": np.array([1], np.int64),
        "weights": weights.astype(np.float32),
        "bias": bias.astype(np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(a, f"head/{name}") for name, a in constants.items())

    def add(operator: str, output: str, *inputs: str, **attributes: Any) -> str:
        graph.node.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    real = add("Cast", "head/real", mask, to=TensorProto.FLOAT)
    row = add("Unsqueeze", "head/row", real, "head/tokens")
    total = add("Squeeze", "head/total", add("MatMul", "head/sum", row, states), "head/tokens")
    count = add("ReduceSum", "head/count", real, "head/tokens", keepdims=1)
    pooled = add("Div", "head/mean", total, count)
    if len(weights) == 2 * width:
        graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), "head/begin"))
        first = add("Gather", "head/first", states, "head/begin", axis=1)
        pooled = add("Concat", "head/pooled", first, pooled, axis=1)
    add("Gemm", "logits", pooled, "head/weights", "head/bias")
    batch = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, len(bias)]))
    onnx.checker.check_model(model)
    return model


def made(directory: Path, made_from: str, write: Callable[[Path], list[Path]]) -> Path:
    """`directory`, filled by `write`, which gets a folder and returns its files, unless it was before."""
    if not made_here(directory, made_from):
        with workspace(directory) as work:
            files = write(work)
            write_sums(files, made_from, work / SUMS)
            place([*files, work / SUMS], directory)
    return directory


def bring_classifier(to: Path) -> Path:
    """Make `to`/classifier/ with model.onnx, tokenizer.json and config.json (id2label); return its path.

    It finds the subject of an utterance, fitted on the ChatterBot corpus.
    """

    def write(work: Path) -> list[Path]:
        lines = chatterbot.bring_labelled(to).read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        texts, labels = ([record[field] for record in records] for field in ("text", "category"))
        return write_classifier(Encoder(demo.bring(to)), texts, labels, work)

    return made(to / "classifier", MADE_FROM, write)


def bring_reranker(to: Path) -> Path:
    """Make `to`/reranker/ with model.onnx and tokenizer.json; return its path.

    It scores a pair of texts by how much they are about the same, fitted on the ChatterBot corpus.
    """

    def write(work: Path) -> list[Path]:
        texts = chatterbot.bring(to).read_text(encoding="utf-8").splitlines()
        return write_reranker(Encoder(demo.bring(to)), texts, work)

    return made(to / "reranker", MADE_FROM, write)


def write_classifier(encoder: Encoder, texts: Sequence[str], labels: Sequence[str], to: Path) -> list[Path]:
    """Fit and write a classifier of texts to the folder `to`; returns the files.

    Targets are 1 for a text's label and 0 for the others.
    """
    names = sorted(set(labels))
    targets = (np.asarray(labels)[:, None] == np.asarray(names)).astype(np.float64)
    features = encoder.means(texts)
    fitted, held = _parted(len(texts))
    weights, bias = ridge(features[fitted], targets[fitted])
    right = (features[held] @ weights + bias).argmax(axis=1) == targets[held].argmax(axis=1)
    print(f"{len(names)} classes; of {len(held)} texts that were not fitted {right.mean():.0%} are right")
    numbered = {str(number): name for number, name in enumerate(names)}
    config = to / "config.json"
    config.write_text(json.dumps({"id2label": numbered}, indent=2) + "\n")
    return [config, *_write(encoder, weights, bias, to)]


def write_reranker(encoder: Encoder, texts: Sequence[str], to: Path) -> list[Path]:
    """Fit and write a scorer of pairs of the texts to the folder `to`; returns the files.

    The target is the cosine of the two texts' own embeddings, which the scorer, reading both at once, does
    not see.
    """
    means = encoder.means(texts)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    cosines = means @ means.T
    ones, others = _partners(cosines)
    features = encoder.features([(texts[a], texts[b]) for a, b in zip(ones, others, strict=True)])
    targets = cosines[ones, others][:, None]
    fitted, held = _parted(len(ones))
    weights, bias = ridge(features[fitted], targets[fitted])
    scores = features[held] @ weights + bias
    likeness = np.corrcoef(scores[:, 0], targets[held, 0])[0, 1]
    print(
        f"of {len(held)} pairs that were not fitted the scores correlate by {likeness:.2f} with the cosines"
    )
    return _write(encoder, weights, bias, to)


def _partners(cosines: FloatArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pairs of texts, by their numbers: each with one of the nearest, one of the near, and any other."""
    rng = np.random.default_rng(0)
    ranked = np.argsort(-cosines, axis=1)
    bounds = [*NEAR, len(cosines)]
    ones = np.repeat(np.arange(len(cosines)), len(NEAR))
    ranks = rng.integers(bounds[:-1], bounds[1:], (len(cosines), len(NEAR))).ravel()
    return ones, ranked[ones, ranks]


def _parted(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The numbers of what is fitted and what is held back."""
    held = np.arange(count) % HELD_BACK == HELD_BACK - 1
    return np.flatnonzero(~held), np.flatnonzero(held)


def _write(encoder: Encoder, weights: FloatArray, bias: FloatArray, to: Path) -> list[Path]:
    files = [to / "tokenizer.json", to / "model.onnx"]
    files[0].write_bytes(encoder.tokenizer.read_bytes())
    onnx.save(with_head(encoder.model, weights, bias), files[1])
    return files
