"""From a model to a bundle: misses to the last bit, hits within a tolerance, in every architecture."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support import (
    ATTENTION,
    LEVELS,
    MODES,
    ROOT,
    Arrays,
    assert_identical,
    join,
    memoized,
    original,
    random_samples,
    relative_errors,
    write_samples,
)

import onnx_memo
from onnx_memo.levels import lookup
from onnx_memo.store.data import memo_data

TOLERANCE = 0.003  # relative L2 error of a hit
SIDES = ("right", "left")

pytestmark = pytest.mark.parametrize("level", LEVELS)
architectures = pytest.mark.parametrize("name", ATTENTION)
masked = pytest.mark.parametrize("name", [name for name in ATTENTION if name != "vit"])


@dataclass(frozen=True)
class Pair:
    """The original and the bundle, both open, and the inputs that are stored."""

    before: ort.InferenceSession
    after: ort.InferenceSession
    stored: list[Arrays]

    def assert_identical(self, request: Arrays) -> None:
        assert_identical(self.after.run(None, request), self.before.run(None, request))

    def assert_in_part(self, request: Arrays, reused: Collection[int]) -> None:
        """Of a batch these rows are within the tolerance, the others the original's bits."""
        want, have = self.before.run(None, request), self.after.run(None, request)
        others = [row for row in range(len(want[0])) if row not in reused]
        for a, b in zip(have, want, strict=True):
            errors = relative_errors(request, a, b)
            assert max(errors[row] for row in reused) <= TOLERANCE
            assert not any(np.array_equal(a[row], b[row]) for row in reused)
            assert a[others].tobytes() == b[others].tobytes()

    def assert_reused(self, request: Arrays) -> None:
        """Within the tolerance; and not computed, since stored numbers are of half precision."""
        want, have = self.before.run(None, request), self.after.run(None, request)
        for a, b in zip(have, want, strict=True):
            assert max(relative_errors(request, a, b)) <= TOLERANCE
            assert not np.array_equal(a, b)

    def unseen(self, lengths, seed: int = 1000) -> list[Arrays]:
        return random_samples(self.before, lengths, seed)


@functools.cache
def shared_session(bundle: Path, mode: str) -> ort.InferenceSession:
    """A session that all tests of a bundle share: it holds no state."""
    return memoized(bundle, mode)


@pytest.fixture
def pair(made: Callable, mode: str, level: str, name: str) -> Pair:
    source = made(name, level)
    return Pair(original(source.model), shared_session(source.bundle, mode), source.samples)


# ---- Misses


@architectures
def test_unseen_inputs_give_the_originals_bits(pair):
    for request in pair.unseen(np.linspace(1, 60, 30)):
        pair.assert_identical(request)


@architectures
@pytest.mark.parametrize("side", SIDES)
def test_unseen_batches_give_the_originals_bits(pair, side):
    for lengths in ((3, 3), (1, 60, 17), (5, 9, 9, 23), (47, 2)):
        pair.assert_identical(join(pair.unseen(lengths), padded=61, side=side))


@architectures
def test_a_row_that_misses_among_others_gives_the_originals_bits(pair):
    new = pair.unseen([9])[0]
    pair.assert_in_part(join([pair.stored[5], new]), [0])
    pair.assert_in_part(join([new, *pair.stored[2:5]]), [1, 2, 3])


@masked
def test_stored_inputs_padded_on_the_left_give_the_originals_bits(pair):
    pair.assert_in_part(join(pair.stored[3:6], side="left"), [2])  # which is as long as the batch


@masked
def test_a_row_without_tokens_gives_the_originals_bits(pair):
    request = join([pair.stored[4], pair.stored[6]])
    request["attention_mask"][1] = 0
    pair.assert_in_part(request, [0])


@masked
def test_masks_with_holes_give_the_originals_bits(pair):
    request = {input_: array.copy() for input_, array in pair.stored[6].items()}
    request["attention_mask"][0, 3] = 0
    pair.assert_identical(request)


@pytest.mark.parametrize("name", ["bert_dynamo"])  # the other fixtures take no empty batch
def test_an_empty_batch_gives_what_the_original_gives(pair):
    pair.assert_identical({input_: array[:0] for input_, array in pair.stored[4].items()})


# ---- Hits


@architectures
def test_stored_inputs_hit_at_every_site(made, mode, level, name):
    source = made(name, level)
    native = mode == "native"
    report = onnx_memo.bench(source.model, source.bundle, source.data, rounds=1, native=native)
    assert set(report.sites.values()) == {1.0}
    for figures in report.outputs.values():
        assert figures["relative"].worst <= TOLERANCE


@architectures
def test_a_stored_input_is_reused(pair):
    for request in pair.stored:
        if request.get("input_ids", np.zeros((1, 2))).shape[1] > 1:
            pair.assert_reused(request)


@architectures
def test_a_batch_of_stored_inputs_is_reused(pair):
    for rows in (pair.stored[7:9], pair.stored[3:8], pair.stored[11:0:-4]):
        pair.assert_reused(join(rows))
        pair.assert_reused(join(rows, padded=64))


# ---- Sessions


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_eight_threads_on_one_session_give_the_results_of_one(pair):
    distinct = [*pair.stored, *pair.unseen([5, 9, 23, 47]), join(pair.stored[3:8])]
    requests = (distinct * 2000)[:2000]
    alone = [pair.after.run(None, request) for request in requests]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda request: pair.after.run(None, request), requests))
    for have, want in zip(together, alone, strict=True):
        assert_identical(have, want)


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_more_threads_in_a_session_change_no_miss(made, mode, level, name):
    source = made(name, level)
    before, after = original(source.model, threads=2), memoized(source.bundle, mode, threads=2)
    for request in random_samples(before, [9, 47], seed=1000):
        assert_identical(after.run(None, request), before.run(None, request))


LOAD_AND_RUN = """
import sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
feeds = dict(np.load(sys.argv[2]))
np.save(sys.argv[3], session.run(None, feeds)[0])
"""


def test_a_plain_session_in_another_working_directory(made, level, tmp_path):
    source = made("bert", level)
    np.savez(tmp_path / "feeds.npz", **source.samples[6])
    arguments = [source.bundle / "model.onnx", tmp_path / "feeds.npz", tmp_path / "out.npy"]
    subprocess.run([sys.executable, "-c", LOAD_AND_RUN, *map(str, arguments)], cwd=tmp_path, check=True)
    want = original(source.model).run(None, source.samples[6])[0]
    assert max(relative_errors(source.samples[6], np.load(tmp_path / "out.npy"), want)) <= TOLERANCE


# ---- Bundles


def index_bytes(bundle: Path) -> int:
    graph = ir.load(bundle / "model.onnx").graph
    return graph.initializers["memo/attention.0/index"].const_value.nbytes


def test_few_entries_need_no_index(made, level):
    assert index_bytes(made("bert", level).bundle) == 0


@pytest.mark.parametrize("mode", MODES)
def test_many_entries_of_one_length_get_an_index(made, level, mode, tmp_path, monkeypatch):
    pytest.importorskip("annoy", reason="annoy is not installed")
    monkeypatch.setattr(lookup, "EXACT_SEARCH", 1)
    source = made("bert", level)
    result = onnx_memo.optimize(source.model, source.data, tmp_path / "bundle", level=level)
    assert index_bytes(result.path) > 0
    assert result.manifest.notes == []
    open_pair = Pair(original(source.model), memoized(result.path, mode), source.samples)
    open_pair.assert_reused(join(source.samples[7:9]))


def test_without_annoy_exact_search_serves_and_a_note_says_so(made, level, tmp_path, monkeypatch):
    monkeypatch.setattr(lookup, "EXACT_SEARCH", 1)
    monkeypatch.setattr(lookup, "annoy_available", lambda: False)
    source = made("bert", level)
    result = onnx_memo.optimize(source.model, source.data, tmp_path / "bundle", level=level)
    assert index_bytes(result.path) == 0
    assert result.manifest.notes == ["annoy is not installed: no index is built, exact search serves"]


def test_repeated_inputs_are_stored_once(made, level, tmp_path):
    source = made("bert", level)
    data = write_samples(tmp_path / "twice.npz", [*source.samples, *source.samples[:3]])
    told = onnx_memo.optimize(source.model, data, tmp_path / "bundle", level=level).manifest
    assert told.entries == len(source.samples)
    assert told.notes == ["3 inputs repeat others and are stored once"]


def test_the_same_inputs_give_the_same_memo_data(made, level, tmp_path):
    source = made("bert", level)
    again = onnx_memo.optimize(source.model, source.data, tmp_path / "bundle", level=level).path
    assert memo_data(again).name == memo_data(source.bundle).name


def test_weights_in_other_files_come_along(made, level, mode, tmp_path):
    source = made("bert", level)
    model = ir.load(source.model)
    (tmp_path / "m" / "weights").mkdir(parents=True)
    ir.save(model, tmp_path / "m" / "model.onnx", external_data="weights/w.bin", size_threshold_bytes=0)
    bundle = onnx_memo.optimize(tmp_path / "m" / "model.onnx", source.data, tmp_path / "b", level=level).path
    assert len(list(bundle.glob("weights-*.data"))) == 1
    moved = bundle.rename(tmp_path / "moved")
    open_pair = Pair(original(source.model), memoized(moved, mode), source.samples)
    open_pair.assert_identical(open_pair.unseen([17])[0])
    open_pair.assert_reused(source.samples[6])


def test_a_threshold_of_zero_and_one_without_end(made, level, mode, tmp_path):
    """Between them lies what the user chooses: nothing unseen, or every input of a known length."""
    source = made("bert", level)
    unseen = random_samples(original(source.model), [23], seed=1000)[0]
    for threshold, hit in ((0.0, False), (1e30, True)):
        bundle = onnx_memo.optimize(
            source.model, source.data, tmp_path / f"{threshold}", level=level, threshold=threshold
        ).path
        have, want = memoized(bundle, mode).run(None, unseen), original(source.model).run(None, unseen)
        assert np.array_equal(have[0], want[0]) != hit


# ---- Pretrained models

CACHE = Path(os.environ.get("ONNX_MEMO_MODELS", ROOT / "models" / "cache"))
pretrained = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                not (CACHE / name / "model.onnx").is_file(),
                reason=f"no pretrained model: bring it with `python -m models.bring {recipe}`",
            ),
        )
        for name, recipe in (("minilm-demo", "demo"), ("minilm", "minilm"))
    ],
)
STORED = np.linspace(5, 200, 12).astype(int)
UNSEEN = (5 + 195 * np.linspace(0, 1, 200) ** 2).astype(int)  # 5 to 200, more of them short
WORDS = 30522


@pretrained
def test_a_pretrained_model(tmp_path, level, name):
    """200 unseen inputs to the last bit, 12 stored ones within the tolerance, in both modes."""
    model = CACHE / name / "model.onnx"
    before = original(model)
    stored = random_samples(before, STORED, seed=1, words=WORDS)
    data = write_samples(tmp_path / "data.npz", stored)
    bundle = onnx_memo.optimize(model, data, tmp_path / "bundle", level=level).path
    modes = ["stock", "native"] if onnx_memo.library_path() else ["stock"]
    pairs = [Pair(before, memoized(bundle, mode), stored) for mode in modes]

    def compare(request: Arrays) -> None:
        want = before.run(None, request)
        for pair in pairs:
            assert_identical(pair.after.run(None, request), want)

    with ThreadPoolExecutor(2) as pool:  # sessions of one thread each
        list(pool.map(compare, random_samples(before, UNSEEN, seed=2, words=WORDS)))
    for pair in pairs:
        for request in [*stored, join(stored[2:5])]:
            pair.assert_reused(request)
    report = onnx_memo.bench(model, bundle, data, rounds=1)
    assert list(report.sites.values()) == [1.0] * 6
