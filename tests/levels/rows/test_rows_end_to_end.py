"""The level `rows` in every architecture: repeats, misses, and requests that run some rows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support import (
    assert_identical,
    fixture,
    join,
    memoized,
    original,
    random_samples,
    variants,
    write_samples,
)
from support_rows import (
    CORES,
    ENCODERS,
    SPANS,
    TINY,
    Built,
    RowsPair,
    build,
    changed_at,
    changed_last,
    made_rows,
    open_pair,
)

import onnx_memo
from onnx_memo.errors import MemoError
from onnx_memo.levels.rows import blueprint as rows_blueprint
from onnx_memo.store.data import memo_data

REPEAT = 1e-6  # of a repeat, relative to the largest number
ALL_ROWS = 1e-4  # where all rows run that can differ
HALF = 2e-3  # where rows run over stored keys and values of half precision
BATCH = 1e-5

architectures = pytest.mark.parametrize("name", ENCODERS)
of_cores = pytest.mark.parametrize("name", CORES)
masked = pytest.mark.parametrize("name", [name for name in ENCODERS if name != "vit"])
native_only = pytest.mark.skipif(onnx_memo.library_path() is None, reason="the native library is not built")


@pytest.fixture
def pair(rows_root, name, mode) -> RowsPair:
    return open_pair(made_rows(name, rows_root), mode)


def real(request, row: int = 0):
    """Where the tokens of a request's row are."""
    return request["attention_mask"][row] == 1 if "attention_mask" in request else slice(None)


def unseen(pair: RowsPair, lengths, seed: int = 1000):
    return random_samples(pair.before, lengths, seed)


# ---- Repeats


@architectures
def test_a_repeat_gives_what_the_original_gives_and_runs_nothing(pair):
    for request in pair.stored:
        answer = pair.ask(request)
        assert answer.hit
        assert len(answer.rows) == 0
        assert pair.error(request) <= REPEAT


@masked
def test_a_padded_repeat_is_reused_and_its_padding_is_zero(pair):
    for request in (join(pair.stored[3:4], padded=12), join(pair.stored[-1:], padded=64)):
        answer, want = pair.ask(request), pair.want(request)
        tokens = real(request)
        assert answer.hit
        assert len(answer.rows) == 0
        assert np.abs(answer.outputs[0] - want)[0, tokens].max() <= REPEAT * np.abs(want).max()
        assert not answer.outputs[0][0, ~tokens].any()


@architectures
def test_one_entry_is_enough(name, mode, tmp_path, monkeypatch):
    monkeypatch.setattr(rows_blueprint, "LIMIT", 2.0)
    samples = random_samples(original(fixture(name)), [9], seed=1)
    build(fixture(name), samples, tmp_path / "bundle", learned=True)
    pair = open_pair(Built(tmp_path / "bundle", fixture(name), samples), mode)
    assert pair.error(samples[0]) <= REPEAT
    assert pair.ask(samples[0]).hit
    near = changed_last(samples[0])
    assert pair.ask(near, TINY).hit
    assert pair.error(near, TINY) <= HALF
    if name != "vit":
        (other,) = unseen(pair, [8])
        assert_identical(pair.ask(other).outputs, pair.before.run(None, other))


# ---- Misses


@architectures
@pytest.mark.parametrize("strictness", [0.0, -1.0, np.nan])
def test_at_strictness_0_the_original_runs(pair, strictness):
    for request in (*pair.stored[2:6], *unseen(pair, [5, 60])):
        answer = pair.ask(request, strictness)
        assert not answer.hit
        assert len(answer.rows) == 0
        assert_identical(answer.outputs, pair.before.run(None, request))


@masked
def test_without_an_entry_of_its_length_a_request_misses(pair):
    for request in unseen(pair, [3, 10, 59, 61]):
        answer = pair.ask(request)
        assert not answer.hit
        assert_identical(answer.outputs, pair.before.run(None, request))


@masked
def test_irregular_masks_miss(pair):
    stored = pair.stored[6]
    hole, empty = ({k: v.copy() for k, v in stored.items()} for _ in range(2))
    hole["attention_mask"][0, 3] = 0
    empty["attention_mask"][0] = 0
    for request in (hole, empty, join([stored], padded=20, side="left")):
        answer = pair.ask(request)
        assert not answer.hit
        assert_identical(answer.outputs, pair.before.run(None, request))
    for odd in (hole, empty):  # beside them others are reused
        together = pair.ask(join([pair.stored[4], odd]))
        assert together.hits.tolist() == [True, False]
        answer, want = together.outputs[0], pair.want(join([pair.stored[4], odd]))
        n = pair.stored[4]["input_ids"].shape[1]
        np.testing.assert_allclose(answer[0, :n], want[0, :n], atol=REPEAT * np.abs(want).max())
        assert_identical([answer[1]], [want[1]])


@architectures
def test_where_too_many_rows_would_run_the_original_does(name, mode, tmp_path, monkeypatch):
    monkeypatch.setattr(rows_blueprint, "LIMIT", 0.5)
    samples = random_samples(original(fixture(name)), [9, 23], seed=1)
    build(fixture(name), samples, tmp_path / "bundle")
    pair = open_pair(Built(tmp_path / "bundle", fixture(name), samples), mode)
    for request in unseen(pair, [9, 23]):
        answer = pair.ask(request)
        assert not answer.hit
        assert_identical(answer.outputs, pair.before.run(None, request))


@pytest.mark.parametrize("name", ["bert_dynamo"])  # the other fixtures take no empty batch
def test_an_empty_batch_gives_what_the_original_gives(pair):
    request = {input_: array[:0] for input_, array in pair.stored[4].items()}
    answer = pair.ask(request)
    assert not answer.hit
    assert_identical(answer.outputs, pair.before.run(None, request))


# ---- Some rows run


def test_where_all_rows_run_the_original_is_met(rows_root, mode):
    """Also for GPT-2: no number that was stored is left."""
    for name in ENCODERS:
        pair = open_pair(made_rows(name, rows_root), mode)
        for request in unseen(pair, [1, 5, 9, 23, 60]):
            answer = pair.ask(request, TINY)
            assert answer.hit
            assert len(answer.rows) == answer.outputs[0].shape[1]
            assert pair.error(request, TINY) <= ALL_ROWS


@pytest.mark.parametrize("learned", [False, True])
@architectures
def test_at_a_bound_of_nearly_0_the_original_is_met(rows_root, mode, name, learned):
    """GPT-2 runs its last token alone, over stored keys and values: only their rounding is left.

    With keys and values stored in single precision the same requests come within 4e-7 (measured).
    """
    pair = open_pair(made_rows(name, rows_root, learned=learned), mode)
    for stored in pair.stored:
        near = changed_last(stored)
        answer = pair.ask(near, TINY)
        assert answer.hit
        assert len(answer.rows) == (1 if name == "gpt2" else answer.outputs[0].shape[1])
        assert pair.error(near, TINY) <= (HALF if name == "gpt2" else ALL_ROWS)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("name", ["gpt2"])
def test_a_causal_model_reuses_the_prefix(rows_root, mode, name, learned):
    """What comes before the first change never runs, and is exact."""
    pair = open_pair(made_rows(name, rows_root, learned=learned), mode)
    for at in (1, 15, 46):
        near = changed_at(pair.stored[-2], at)
        answer, want = pair.ask(near, TINY), pair.want(near)
        assert answer.hit
        assert answer.rows.tolist() == list(range(at, 47))
        assert np.abs(answer.outputs[0] - want)[0, :at].max() <= REPEAT * np.abs(want).max()
        assert pair.error(near, TINY) <= HALF


@masked
def test_changed_rows_always_run(pair):
    for places in ((0,), (4, 9), (22,), (3, 4, 5, 21)):
        answer = pair.ask(changed_at(pair.stored[8], *places))
        assert answer.hit
        assert set(places) <= set(answer.rows.tolist())


@architectures
def test_at_a_loose_bound_few_rows_run_and_all_stay_finite(pair):
    for stored in pair.stored:
        answer = pair.ask(changed_last(stored))
        assert answer.hit
        assert answer.rows.tolist() == [1 if "pixel_values" in stored else stored["input_ids"].shape[1] - 1]
        assert np.isfinite(answer.outputs[0]).all()


@architectures
def test_a_lower_strictness_never_runs_fewer_rows(pair):
    near = changed_last(pair.stored[-1])
    rows = [set(pair.ask(near, s).rows.tolist()) for s in (5.0, 1.0, 0.1, 0.03, 0.01, 1e-3, 1e-6, TINY)]
    assert rows[0] == rows[1]
    assert all(looser <= stricter for looser, stricter in itertools.pairwise(rows))
    if name_of(pair) != "gpt2":
        assert len(rows[-1]) > len(rows[0])


@masked
def test_rows_join_at_later_layers(pair, name):
    near = changed_at(pair.stored[-2], 1)
    answers = [pair.ask(near, s) for s in (1.0, 0.3, 0.1, 0.03, 0.01, TINY)]
    assert any(answer.hit and answer.ran < len(answer.rows) for answer in answers)
    assert pair.error(near, TINY) <= (HALF if name == "gpt2" else ALL_ROWS)


@masked
@native_only
def test_kernels_and_bodies_let_the_same_rows_join(rows_root, name):
    stock, native = (open_pair(made_rows(name, rows_root), mode) for mode in ("stock", "native"))
    near = changed_at(stock.stored[-2], 1)
    for strictness in (1.0, 0.3, 0.1, 0.03, 0.01, TINY):
        want, have = (pair.ask(near, strictness) for pair in (stock, native))
        assert have.rows.tolist() == want.rows.tolist()
        np.testing.assert_allclose(have.outputs[0], want.outputs[0], atol=1e-4)


def name_of(pair: RowsPair) -> str:
    return "gpt2" if "position_ids" in pair.stored[0] else "other"


@masked
def test_padding_never_runs_and_is_zero(pair):
    for strictness in (1.0, TINY):
        near = changed_last(pair.stored[8])
        request = join([near], padded=40)
        alone, answer = pair.ask(near, strictness), pair.ask(request, strictness)
        assert answer.hit
        assert answer.rows.tolist() == alone.rows.tolist()
        assert not answer.outputs[0][0, 23:].any()
        scale = np.abs(alone.outputs[0]).max()
        assert np.abs(answer.outputs[0][:, :23] - alone.outputs[0]).max() <= BATCH * scale


@masked
def test_a_request_of_one_token(pair):
    assert pair.ask(pair.stored[0]).hit
    assert pair.error(pair.stored[0]) <= REPEAT
    (other,) = unseen(pair, [1])
    assert pair.ask(other).rows.tolist() == [0]
    assert pair.error(other) <= ALL_ROWS


# ---- Batches


def mixed(pair: RowsPair):
    """A repeat, near requests, and one of a length that is not stored; of uneven length."""
    stored = pair.stored
    return [stored[4], changed_last(stored[8]), *unseen(pair, [10]), changed_last(stored[2]), stored[11]]


@of_cores
@pytest.mark.parametrize("padded", [0, 62])
@pytest.mark.parametrize("strictness", [1.0, 0.03, TINY])
def test_a_batch_gives_what_its_requests_give_alone(rows_root, mode, name, strictness, padded):
    pair = open_pair(made_rows(name, rows_root), mode)
    requests = mixed(pair)
    batch = join(requests, padded=padded)
    answer = pair.ask(batch, strictness)
    assert any(answer.hits)
    length = answer.outputs[0].shape[1]
    for at, request in enumerate(requests):
        alone = pair.ask(request, strictness)
        n = alone.outputs[0].shape[1]
        scale = np.abs(alone.outputs[0]).max()
        assert np.abs(answer.outputs[0][at, :n] - alone.outputs[0][0]).max() <= BATCH * scale
        assert answer.hits[at] == alone.hit
        assert not (alone.hit and answer.outputs[0][at, n:].any())
        own = answer.rows[(answer.rows >= at * length) & (answer.rows < (at + 1) * length)] - at * length
        assert own.tolist() == alone.rows.tolist()


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_where_a_batch_is_not_taken_apart_its_requests_get_what_they_get_alone(name, mode, tmp_path):
    """The original runs for all; what is reused takes the place of what it gives."""
    samples = random_samples(original(fixture(name)), [5, 9, 23], seed=1)
    build(fixture(name), samples, tmp_path / "bundle", apart=False)
    pair = open_pair(Built(tmp_path / "bundle", fixture(name), samples), mode)
    requests = [*unseen(pair, [7]), *map(changed_last, samples), samples[1], *unseen(pair, [12])]
    answer = pair.ask(join(requests))
    assert answer.hits.tolist() == [False, True, True, True, True, False]
    for at, request in enumerate(requests):
        (alone,) = pair.ask(request).outputs[0]
        np.testing.assert_allclose(
            answer.outputs[0][at, : len(alone)], alone, atol=BATCH * np.abs(alone).max()
        )
    unrelated = join([requests[0], requests[-1]])
    assert_identical(pair.ask(unrelated).outputs, pair.before.run(None, unrelated))


@masked
def test_a_batch_of_unrelated_requests_gets_the_original(name, mode, tmp_path):
    samples = random_samples(original(fixture(name)), [9, 23], seed=1)
    build(fixture(name), samples, tmp_path / "bundle")
    pair = open_pair(Built(tmp_path / "bundle", fixture(name), samples), mode)
    batch = join(unseen(pair, [9, 9, 9]))
    answer = pair.ask(batch)
    assert not answer.hit
    assert_identical(answer.outputs, pair.before.run(None, batch))


# ---- Literal repeats, as `optimize` guards them without a tolerance


everything = pytest.mark.parametrize("name", [*ENCODERS, *SPANS])


@everything
def test_literal_repeats_are_reused_and_nothing_else(made, mode, name):
    source = made(name, "rows")
    before, after = original(source.model), memoized(source.bundle, mode)
    for request in source.samples:
        want, have = before.run(None, request)[0], after.run(None, request)[0]
        assert np.abs(have - want).max() <= REPEAT * np.abs(want).max()
    for request in (*random_samples(before, [5, 9, 10, 60], 1000), *map(changed_last, source.samples)):
        assert_identical(after.run(None, request), before.run(None, request))


@everything
def test_a_batch_of_literal_repeats(made, mode, name):
    source = made(name, "rows")
    before, after = original(source.model), memoized(source.bundle, mode)
    batch = join(source.samples[3:8])
    want, have = before.run(None, batch)[0], after.run(None, batch)[0]
    for at in range(5):
        n = int(batch["attention_mask"][at].sum()) if "attention_mask" in batch else want.shape[1]
        assert np.abs(have - want)[at, :n].max() <= REPEAT * np.abs(want).max()
        assert not have[at, n:].any()


def test_the_default_is_rows_where_the_model_has_an_encoder(made, tmp_path):
    source = made("bert", "rows")
    told = onnx_memo.optimize(source.model, source.data, tmp_path / "auto").manifest
    (site,) = told.sites
    assert (site.level, site.threshold) == ("rows", 0.0)
    assert 0.5 < site.share <= 1
    assert memo_data(tmp_path / "auto").name == memo_data(source.bundle).name


@pytest.mark.parametrize("name", SPANS)
def test_what_is_taken_as_a_whole_is_said_and_reused(made, tmp_path, name, mode):
    """A hit, not just an answer as good as the original's: where nothing may be reused, it is none."""
    source = made(name, "rows")
    told = onnx_memo.optimize(source.model, source.data, tmp_path / "auto").manifest
    assert [(site.level, site.threshold, site.heads) for site in told.sites] == [("rows", 0.0, 4)]
    assert 0.9 < told.sites[0].share <= 1
    assert any("the level 'rows' reuses literal repeats alone" in note for note in told.notes)
    pair = open_pair(source, mode)
    for request in source.samples[::4]:
        assert pair.ask(request).hit and not pair.ask(changed_last(request)).hit
        assert not pair.ask(request, strictness=0).hit


@pytest.mark.parametrize("name", SPANS)
def test_with_a_tolerance_rows_are_refused_there(tmp_path, name):
    data = write_samples(tmp_path / "data.npz", variants(20, seed=1))
    with pytest.raises(MemoError, match="does not allow the level 'rows': "):
        onnx_memo.optimize(fixture(name), data, tmp_path / "b", level="rows", tolerance=0.1)
