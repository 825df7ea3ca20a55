"""What is learned for the level `rows`: whom a changed row moves, and where to."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from onnx_memo.levels.rows import correction
from onnx_memo.levels.rows.capture import RowsCapture
from onnx_memo.levels.rows.correction import NEIGHBOURS, fit_correction, fit_corrections, neighbour_pairs
from onnx_memo.levels.rows.influence import learned_influence, write_influence

N, WIDTH, COUNT = 12, 6, 60
CHANGEABLE = 4  # the rows in which inputs differ; they do not reach each other
EPSILON, LIMIT, MOST = 0.02, 0.8, 8.0


def written(folder: Path, stored, final, rollout) -> RowsCapture:
    """A capture of `stored` and `final` [count, N, WIDTH] and `rollout` [count, N, N]."""
    count = len(stored)
    captured = RowsCapture(folder, np.full(count, N), WIDTH, ((1, WIDTH, WIDTH),), (0,), 1.0, WIDTH)
    for kind, array, dtype in (
        ("states.0", stored, np.float16),
        ("final", final, np.float32),
        ("rollout", rollout, np.float16),
        ("reach.0", rollout, np.float16),
    ):
        np.ascontiguousarray(array).astype(dtype).tofile(captured.path(kind))
    return captured


def reach(rng: np.random.Generator) -> np.ndarray:
    """What row j passes on to row t, J[j, t]: changeable rows to the others alone."""
    matrix = np.zeros((N, N))
    matrix[:CHANGEABLE, CHANGEABLE:] = rng.uniform(0.2, 1, (CHANGEABLE, N - CHANGEABLE))
    return matrix.astype(np.float16).astype(np.float64) + np.eye(N)


def linear(folder: Path, b: np.ndarray, noise: float = 0.0, seed: int = 0) -> RowsCapture:
    """Inputs that differ in one or two of the first rows; all others follow by `b`, and some noise."""
    rng = np.random.default_rng(seed)
    parent, base, j = rng.standard_normal((N, WIDTH)), rng.standard_normal((N, WIDTH)), reach(rng)
    stored, final = np.tile(parent, (COUNT, 1, 1)), np.tile(base, (COUNT, 1, 1))
    for at in range(COUNT):
        places = rng.choice(CHANGEABLE, rng.integers(1, 3), replace=False)
        stored[at, places] += rng.standard_normal((len(places), WIDTH))
        change = np.zeros((N, WIDTH))
        change[places] = rng.standard_normal((len(places), WIDTH))
        moved = j.T @ change @ b
        final[at] += np.where(np.arange(N)[:, None] < CHANGEABLE, change, moved)
    final[:, CHANGEABLE:] += noise * rng.standard_normal((COUNT, N - CHANGEABLE, WIDTH))
    return written(folder, stored, final, np.tile(j, (COUNT, 1, 1)))


def all_pairs() -> np.ndarray:
    return np.stack(np.meshgrid(range(COUNT), range(COUNT)), -1).reshape(-1, 2)


def fit(captured: RowsCapture, pairs: np.ndarray | None = None, limit: float = LIMIT) -> np.ndarray:
    some = all_pairs() if pairs is None else pairs
    return fit_correction(captured, 1, some, EPSILON, limit, lambda: None)


# ---- The correction


def test_it_finds_how_rows_follow(tmp_path, monkeypatch):
    monkeypatch.setattr(correction, "RIDGES", (1e-6,))
    b = np.random.default_rng(5).standard_normal((WIDTH, WIDTH)) / 3
    found = fit(linear(tmp_path, b))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, b, atol=1e-3)


def test_the_ridge_shrinks_it(tmp_path):
    """The weakest of `RIDGES` still leaves most of what is true."""
    b = np.random.default_rng(5).standard_normal((WIDTH, WIDTH)) / 3
    found = fit(linear(tmp_path, b))
    assert np.linalg.norm(found) < np.linalg.norm(b)
    assert np.linalg.norm(found - b) < 0.1 * np.linalg.norm(b)


def test_more_noise_gets_a_stronger_ridge(tmp_path):
    b = np.random.default_rng(5).standard_normal((WIDTH, WIDTH)) / 3
    sizes = []
    for at, noise in enumerate((0.0, 3.0)):
        (tmp_path / str(at)).mkdir()
        sizes.append(np.linalg.norm(fit(linear(tmp_path / str(at), b, noise), all_pairs()[:400])))
    assert sizes[1] < sizes[0]


def test_where_it_helps_no_held_back_input_it_is_zero(tmp_path):
    """They follow the other way round: whatever is fitted makes them worse."""
    b = np.random.default_rng(5).standard_normal((WIDTH, WIDTH)) / 3
    captured = linear(tmp_path, b)
    final = np.array(captured.states(1)).reshape(COUNT, N, WIDTH)
    base = np.random.default_rng(0).standard_normal((2, N, WIDTH))[1]
    final[:: correction.HELD_BACK, CHANGEABLE:] *= -1
    final[:: correction.HELD_BACK, CHANGEABLE:] += 2 * base[CHANGEABLE:]
    final.astype(np.float32).tofile(captured.path("final"))
    found = fit(captured)
    assert found.shape == (WIDTH, WIDTH)
    assert not found.any()


@pytest.mark.parametrize("pairs", [np.zeros((0, 2), np.int64), np.asarray([[1, 2], [5, 6]])])
def test_without_pairs_to_judge_by_it_is_zero(tmp_path, pairs):
    assert not fit(linear(tmp_path, np.eye(WIDTH)), pairs).any()


def test_pairs_that_differ_in_too_many_rows_teach_nothing(tmp_path):
    assert not fit(linear(tmp_path, np.eye(WIDTH)), limit=0.5 / N).any()


def test_equal_inputs_teach_nothing(tmp_path):
    captured = linear(tmp_path, np.eye(WIDTH))
    assert not fit(captured, np.stack([np.arange(COUNT)] * 2, axis=1)).any()


def test_nothing_that_is_held_back_leaks_into_what_is_judged_by_it(tmp_path, monkeypatch):
    """Neither the inputs themselves nor their mirror images: a pair (i, j) says the same as (j, i)."""
    parts = []
    moments = correction._moments

    def spied(examples, pairs, advance):
        parts.append({tuple(pair) for pair in pairs.tolist()})
        return moments(examples, pairs, advance)

    monkeypatch.setattr(correction, "_moments", spied)
    fit(linear(tmp_path, np.eye(WIDTH)))
    seen, unseen, *rest = parts
    back = {at for at in range(COUNT) if at % correction.HELD_BACK == 0}
    assert all(back.isdisjoint(pair) for pair in seen)
    assert all(request in back and entry not in back for request, entry in unseen)
    assert seen | unseen | set().union(*rest) == {tuple(pair) for pair in all_pairs().tolist()}
    assert not seen & unseen


def test_each_pair_is_reported(tmp_path):
    told = []
    captured = linear(tmp_path, np.eye(WIDTH))
    (only,) = fit_corrections(captured, all_pairs()[:50], EPSILON, LIMIT, lambda: told.append(1))
    assert only.shape == (WIDTH, WIDTH)
    assert len(told) == 50


def test_each_depth_has_a_correction_of_its_own(tmp_path):
    """What joins before the second stage follows by one matrix, what never ran by another."""
    b, other = np.random.default_rng(5).standard_normal((2, WIDTH, WIDTH)) / 3
    (tmp_path / "later").mkdir()
    before, behind = linear(tmp_path, b), linear(tmp_path / "later", other)
    before.path("past.1").write_bytes(before.path("rollout").read_bytes())
    before.states(1).astype(np.float16).tofile(before.path("states.1"))
    for kind in ("final", "rollout"):
        before.path(kind).write_bytes(behind.path(kind).read_bytes())
    staged = dataclasses.replace(before, stages=(0, 1))
    first, last = fit_corrections(staged, all_pairs(), EPSILON, LIMIT, lambda: None)
    np.testing.assert_allclose(first, fit(linear(tmp_path / "later", b)), atol=1e-2)
    assert np.linalg.norm(first - b) < 0.1 * np.linalg.norm(b)
    assert np.linalg.norm(last - other) < np.linalg.norm(last - b)


# ---- Pairs


def test_pairs_are_nearest_others_of_one_length():
    rng = np.random.default_rng(0)
    keys, lengths = rng.standard_normal((50, 8)).astype(np.float32), rng.integers(4, 7, 50)
    pairs = neighbour_pairs(keys, lengths)
    assert len(pairs) == len({tuple(pair) for pair in pairs.tolist()}) == 50 * NEIGHBOURS
    for request, entry in pairs:
        assert request != entry
        assert lengths[request] == lengths[entry]
    for at in range(50):
        group = np.flatnonzero((lengths == lengths[at]) & (np.arange(50) != at))
        nearest = group[np.argsort(np.square(keys[group] - keys[at]).sum(axis=1))[:NEIGHBOURS]]
        assert set(pairs[pairs[:, 0] == at, 1]) == set(nearest)


def test_an_input_of_its_own_length_has_no_pair():
    assert neighbour_pairs(np.zeros((3, 4), np.float32), np.asarray([4, 5, 6])).shape == (0, 2)
    assert set(neighbour_pairs(np.zeros((3, 4), np.float32), np.asarray([4, 5, 5])).ravel()) == {1, 2}


def test_no_more_pairs_than_are_useful(monkeypatch):
    monkeypatch.setattr(correction, "PAIRS", 20)
    keys = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    pairs = neighbour_pairs(keys, np.full(50, 5))
    assert pairs.shape == (20, 2)
    assert len(set(pairs[:, 0])) > 10  # not those of the first inputs
    np.testing.assert_array_equal(pairs, neighbour_pairs(keys, np.full(50, 5)))


# ---- The influence


def movers(folder: Path, count: int = 40, changes: int = 1) -> tuple[RowsCapture, np.ndarray]:
    """Inputs in which row 6 + j moves, and no other, where row j < 6 changed; the rollout knows nothing."""
    rng = np.random.default_rng(0)
    parent, base = rng.standard_normal((N, WIDTH)), rng.standard_normal((N, WIDTH))
    stored, final = np.tile(parent, (count, 1, 1)), np.tile(base, (count, 1, 1))
    for at in range(1, count):
        places = rng.choice(6, changes, replace=False)
        stored[at, places] += 3 * rng.standard_normal((changes, WIDTH))
        final[at, [*places, *(6 + places)]] += 3 * rng.standard_normal((2 * changes, WIDTH))
    rollout = np.full((N, N), 1 / N, np.float32)
    return written(folder, stored, final, np.tile(rollout, (count, 1, 1))), rollout


def learned_of(captured: RowsCapture, rollout: np.ndarray, entry: int = 0) -> np.ndarray:
    """The influence of an entry, learned from all others."""
    changes, moves = (
        np.delete(np.linalg.norm(states - states[entry], axis=2), entry, axis=0)
        for states in (captured.states(stage).reshape(-1, N, WIDTH).astype(np.float32) for stage in (0, 1))
    )
    return learned_influence(rollout, changes, moves)


@pytest.mark.parametrize("changes", [1, 2])
def test_the_rows_that_really_move_are_found(tmp_path, changes):
    learned = learned_of(*movers(tmp_path, 60, changes))
    assert (learned.dtype, learned.shape) == (np.float32, (N, N))
    for j in range(6):
        others = [t for t in range(N) if t not in (j, 6 + j)]
        assert learned[j, 6 + j] > 3 * learned[j, others].max()


def test_pretended_requests_without_a_change_teach_nothing():
    """All rows are as the entry's: no number is left over or not finite."""
    learned = learned_influence(np.full((N, N), 1 / N, np.float32), *np.zeros((2, 3, N), np.float32))
    assert np.isfinite(learned).all()
    assert (learned >= 0).all()


def test_what_attention_reaches_keeps_some_influence_and_the_rest_none(tmp_path):
    """So a bound of nearly 0 runs all that can differ, and of a causal model nothing before the change."""
    captured, _ = movers(tmp_path, 60)
    causal = np.triu(np.full((N, N), 1 / N, np.float32))
    np.testing.assert_array_equal(learned_of(captured, causal).astype(np.float16) > 0, causal > 0)


def test_only_allowed_inputs_are_pretended_requests(tmp_path):
    captured, rollout = movers(tmp_path)
    keys = np.zeros((40, 4), np.float32)
    told = []
    none = np.arange(40) == 0
    write_influence(captured, keys, none, EPSILON, MOST, lambda: told.append(1))
    first = np.fromfile(captured.path("influence.0"), np.float16).reshape(40, N, N)
    np.testing.assert_array_equal(first[0], rollout.astype(np.float16))  # not by itself
    assert not np.array_equal(first[1], first[0])
    assert len(told) == 40


def test_the_influence_of_every_entry_is_written(tmp_path):
    captured, _ = movers(tmp_path)
    keys = np.random.default_rng(1).standard_normal((40, 4)).astype(np.float32)
    write_influence(captured, keys, np.ones(40, np.bool_), EPSILON, MOST, lambda: None)
    written_ = np.fromfile(captured.path("influence.0"), np.float16)
    assert written_.size == 40 * N * N
    assert np.isfinite(written_).all()
    assert (written_ >= 0).all()
