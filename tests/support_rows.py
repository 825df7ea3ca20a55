"""Bundles at the level `rows`, built from the pieces: no decision, no timing."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support import FIXTURES, Arrays, fixture, memoized, original, random_samples, write_samples

from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import Samples, model_inputs
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.keys.fixed import fit_keys
from onnx_memo.levels.inserter import STRICTNESS
from onnx_memo.levels.rows import blueprint as rows_blueprint
from onnx_memo.levels.rows.blueprint import EPSILON, RowsBlueprint, RowsSettings
from onnx_memo.levels.rows.capture import RowsCapture, capture_rows
from onnx_memo.levels.rows.correction import fit_corrections, neighbour_pairs
from onnx_memo.levels.rows.influence import write_influence
from onnx_memo.levels.rows.quantize import Int8Product, int8_products
from onnx_memo.levels.rows.watch import RowsWatch, Watched
from onnx_memo.operators.spec import MOST_CHANGE
from onnx_memo.precision.chains import find_chains
from onnx_memo.precision.products import round_products
from onnx_memo.precision.whole import APART, Whole
from onnx_memo.progress import silent
from onnx_memo.store.data import memo_data, write_store

CORES = ("bert", "bert_dynamo", "distilbert", "gpt2", "mpnet", "xlm", "vit", "llama")
ENCODERS = (*CORES, "deberta_v2")  # of which the last has mixings
SPANS = ("deberta_v2_conv",)  # taken as a whole: no row of them can be run by itself
STORED_LENGTHS = (1, 2, 5, 7, 8, 9, 16, 23, 23, 23, 31, 47, 60)
BOUND = 1.0
TINY = 1e-12  # a strictness at which all rows run that a changed one moves at all


def opened(model: Path) -> OpenedModel:
    """A model that is searched once, as in a run; a fixture, once for all tests. Only copies are changed."""
    return _opened_fixture(model.stem) if model.parent == FIXTURES else OpenedModel(model)


@functools.cache
def _opened_fixture(name: str) -> OpenedModel:
    return OpenedModel(fixture(name))


def samples_of(model: Path, requests: list[Arrays], folder: Path) -> Samples:
    """The requests as `optimize` reads them, shortest first."""
    read = read_samples(write_samples(folder / "data.npz", requests), model_inputs(opened(model)), None)
    return read.take(sorted(range(len(read)), key=read.extent))


def capture_of(model: Path, requests: list[Arrays], folder: Path, literal: bool = False) -> RowsCapture:
    samples = samples_of(model, requests, folder)
    return capture_rows(opened(model), samples, folder, lambda: None, literal=literal)


def influence_of_attention(captured: RowsCapture) -> None:
    """Let the influence be what attention reaches: nothing is learned."""
    for stage in range(len(captured.stages)):
        captured.path(f"influence.{stage}").write_bytes(captured.path(f"reach.{stage}").read_bytes())


def build(
    model: Path,
    requests: list[Arrays],
    folder: Path,
    *,
    literal: bool = False,
    learned: bool = False,
    int8: int | None = None,
    in_bytes: bool = False,
    misses_in_bytes: bool = False,
    apart: bool = True,
) -> RowsCapture:
    """Write the guarded model and its memo data; influence is the reach of attention, unless `learned`.

    `int8`: products are in int8 by standard nodes, but for one in so many. `in_bytes`: rows run in 8 bits,
    with `misses_in_bytes` requests that reuse nothing as well. `apart`: as of `Blueprint.insert`.
    """
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    captured = capture_of(model, requests, scratch, literal)
    network = fit_keys(captured.means)
    corrections = None
    if not literal:
        keys = network(captured.means)
        pairs = neighbour_pairs(keys, captured.lengths)
        corrections = fit_corrections(captured, pairs, EPSILON, 0.8, lambda: None)
        if learned:
            everyone = np.ones(len(keys), np.bool_)
            write_influence(captured, keys, everyone, EPSILON, MOST_CHANGE, lambda: None)
        else:
            influence_of_attention(captured)
    source = opened(model)
    products: list[Int8Product | None] = []
    if int8 is not None:
        whole = int8_products(source, samples_of(model, requests, scratch))
        products = [None if at % int8 == int8 - 1 else product for at, product in enumerate(whole)]
    settings = RowsSettings(network, corrections, BOUND, products)
    if in_bytes:
        chains = find_chains(source)
        samples = samples_of(model, requests, scratch)
        rounded = round_products(source, chains, samples, APART[0], silent)
        settings = replace(settings, whole=Whole(chains, rounded), rows_in_bytes=True)
        settings = replace(settings, misses_in_bytes=misses_in_bytes)
    blueprint = RowsBlueprint(source.span, captured, settings)
    external = write_store(folder, blueprint.tensors(scratch, []))
    guarded = source.copy()
    blueprint.insert(guarded, external, apart)
    ir.save(guarded.model, folder / "model.onnx")
    return captured


@dataclass(frozen=True)
class Built:
    """A bundle at the level `rows`, and what it was made from."""

    bundle: Path
    model: Path
    samples: list[Arrays]


@functools.cache
def _session(bundle: Path, mode: str) -> tuple[ort.InferenceSession, RowsWatch]:
    """A session on a bundle that tells as well which rows ran, and whether they alone did."""
    model = ir.load(bundle / "model.onnx")
    watch = RowsWatch(model)
    path = bundle / f"watched.{mode}" / "model.onnx"
    path.parent.mkdir(exist_ok=True)
    data = path.parent / memo_data(bundle).name
    data.exists() or data.hardlink_to(memo_data(bundle))
    ir.save(model, path)
    return memoized(path.parent, mode), watch


@dataclass(frozen=True)
class RowsPair:
    """The original and the bundle, both open."""

    before: ort.InferenceSession
    after: ort.InferenceSession
    watch: RowsWatch
    stored: list[Arrays]

    def want(self, request: Arrays) -> np.ndarray:
        return self.before.run(None, request)[0]

    def ask(self, request: Arrays, strictness: float = 1.0) -> Watched:
        extra = {STRICTNESS: np.asarray(strictness, np.float32)}
        return self.watch.watched(self.after.run(None, request | extra))

    def error(self, request: Arrays, strictness: float = 1.0) -> float:
        """The largest difference, relative to the largest number."""
        have, want = self.ask(request, strictness).outputs[0], self.want(request)
        return float(np.abs(have - want).max() / np.abs(want).max())


def open_pair(built: Built, mode: str) -> RowsPair:
    return RowsPair(original(built.model), *_session(built.bundle, mode), built.samples)


@functools.cache
def _made(name: str, root: Path, literal: bool, learned: bool, int8: int | None) -> Built:
    folder = root / f"{name}-{literal}-{learned}-{int8}"
    samples = random_samples(original(fixture(name)), STORED_LENGTHS, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_blueprint, "LIMIT", 2.0)  # so that all rows may run
        patch.setattr(rows_blueprint, "INT8_LIMIT", 2.0)
        build(fixture(name), samples, folder, literal=literal, learned=learned, int8=int8)
    return Built(folder, fixture(name), samples)


def made_rows(
    name: str, root: Path, *, literal: bool = False, learned: bool = False, int8: int | None = None
) -> Built:
    """A bundle of a fixture, made once for each `root` and never changed."""
    return _made(name, root, literal, learned, int8)


def changed_last(request: Arrays) -> Arrays:
    """The request with another last token, or another first patch."""
    near = {name: array.copy() for name, array in request.items()}
    if "pixel_values" in near:
        near["pixel_values"][0, :, :4, :4] += 1
    else:
        near["input_ids"][0, -1] = (near["input_ids"][0, -1] + 1) % 64
    return near


def changed_at(request: Arrays, *tokens: int) -> Arrays:
    """The request with other tokens at these places."""
    near = {name: array.copy() for name, array in request.items()}
    for token in tokens:
        near["input_ids"][0, token] = (near["input_ids"][0, token] + 7) % 64
    return near
