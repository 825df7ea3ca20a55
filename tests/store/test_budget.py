"""A memo data file of limited size: it keeps its limit, and holds what covers the sample."""

from __future__ import annotations

import numpy as np
import pytest
from support import fixture, original, random_samples, write_samples

import onnx_memo
from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import model_inputs
from onnx_memo.errors import MemoError
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.levels.sites.observe import Observer
from onnx_memo.store import budget as coverage
from onnx_memo.store.data import memo_data


def covered(features, budget, lengths=None, weights=None, sizes=None, taken=None):
    """The numbers of the inputs that are chosen."""
    count = len(features)
    return np.flatnonzero(
        coverage.cover(
            np.asarray(features, float),
            np.full(count, 5) if lengths is None else np.asarray(lengths),
            np.ones(count) if weights is None else np.asarray(weights),
            np.ones(count, np.int64) if sizes is None else np.asarray(sizes),
            budget,
            np.ones(count, np.bool_) if taken is None else ~taken,
            np.zeros(count, np.bool_) if taken is None else taken,
        )
    ).tolist()


def clusters(count: int, each: int, seed: int = 0):
    """Points in clusters that lie far apart, in random order, and the cluster of each."""
    rng = np.random.default_rng(seed)
    cluster = rng.permutation(np.repeat(np.arange(count), each))
    return 10 * rng.standard_normal((count, 16))[cluster] + rng.standard_normal((count * each, 16)), cluster


@pytest.mark.parametrize("seed", range(5))
def test_every_cluster_is_covered_before_any_gets_a_second_entry(seed):
    points, cluster = clusters(12, 20, seed)
    assert sorted(cluster[covered(points, 12)]) == list(range(12))


def test_large_clusters_come_first():
    points, cluster = clusters(4, 20)
    few = np.concatenate([np.flatnonzero(cluster == n)[: [20, 2, 20, 2][n]] for n in range(4)])
    assert sorted(cluster[few[covered(points[few], 2)]]) == [0, 2]


def test_what_occurs_often_weighs_more():
    points = np.random.default_rng(0).standard_normal((30, 16))
    weights = np.where(np.isin(np.arange(30), [4, 17, 25]), 20, 1)
    assert covered(points, 3, weights=weights) == [4, 17, 25]


def test_bytes_are_weighed_against_coverage():
    points = 10 * np.random.default_rng(0).standard_normal((30, 16))
    sizes = np.where(np.arange(30) < 10, 1, 5)
    assert covered(points, 10, sizes=sizes) == list(range(10))


def test_what_does_not_fit_makes_room_for_what_does():
    assert covered([[0.0], [100.0], [200.0]], 4, sizes=[5, 3, 9]) == [1]


def test_only_equal_lengths_cover_each_other():
    points = np.zeros((6, 2))
    points[:, 0] = np.arange(6) * 1e-3
    assert len(set(np.asarray([5, 5, 6, 6, 7, 7])[covered(points, 3, lengths=[5, 5, 6, 6, 7, 7])])) == 3


def test_what_is_stored_already_needs_no_second_entry():
    points, cluster = clusters(3, 10)
    taken = np.arange(30) == np.flatnonzero(cluster == 1)[0]
    assert sorted(cluster[covered(points, 2, taken=taken)]) == [0, 2]


def test_the_choice_is_as_good_as_that_of_the_plain_greedy():
    """Lazy evaluation only saves work."""
    points = np.random.default_rng(3).standard_normal((40, 4))
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    gaps = np.full(40, 2 * np.sqrt(np.square(distances).sum() / (40 * 39)))
    want = set()
    for _ in range(12):
        gains = np.maximum(gaps[:, None] - distances, 0).sum(axis=0)
        want.add(int(gains.argmax()))
        gaps = np.minimum(gaps, distances[:, gains.argmax()])
    assert set(covered(points, 12)) == want


def test_all_is_stored_where_all_fits():
    assert covered(np.zeros((5, 2)), 5) == list(range(5))


@pytest.mark.parametrize("budget", [1, 400, 1999])
def test_thousands_of_inputs_take_no_time(budget):
    import time

    rng = np.random.default_rng(0)
    start = time.perf_counter()
    chosen = covered(
        rng.standard_normal((2000, coverage.FEATURES)), budget, lengths=rng.integers(9, 14, 2000)
    )
    assert len(chosen) == budget
    assert time.perf_counter() - start < 10


def test_means_are_those_of_the_whole_model(tmp_path):
    opened = OpenedModel(fixture("bert"))
    site = opened.findings.sites[0]
    data = write_samples(tmp_path / "data.npz", random_samples(original(opened.path), range(5, 25), seed=0))
    samples = read_samples(data, model_inputs(opened), None)
    means, lengths = coverage.input_means(opened, site, samples, lambda: None)
    assert lengths.tolist() == list(range(5, 25))
    observer = Observer(opened, [site])
    for at, feeds in enumerate(samples.arrays):
        np.testing.assert_allclose(means[at], observer.run(feeds, site.name)[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "size"),
    [("123", 123), ("500M", 500 * 2**20), ("2G", 2**31), ("1.5k", 1536), ("2 GiB", 2**31), ("7B", 7)],
)
def test_sizes_are_read(text, size):
    assert coverage.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "M", "-5", "1e6", "5 apples", "nan"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(MemoError, match="no size"):
        coverage.parse_bytes(text)


def make(tmp_path, **options):
    samples = random_samples(original(fixture("bert")), np.arange(240) % 20 + 5, seed=1)
    data = write_samples(tmp_path / "data.npz", samples)
    return onnx_memo.optimize(fixture("bert"), data, tmp_path / "bundle", **options)


@pytest.mark.parametrize("level", ["output", "probs", "rows"])
@pytest.mark.parametrize("share", [0.5, 0.7, 0.95])
def test_the_file_keeps_to_the_bytes_and_uses_them(tmp_path, level, share, monkeypatch):
    whole = memo_data(make(tmp_path, level=level).path).stat().st_size
    budget = int(share * whole)
    result = make(tmp_path, level=level, max_bytes=budget, force=True)
    size = memo_data(result.path).stat().st_size
    assert 0.8 * budget < size <= budget
    assert 0 < result.manifest.entries < 240
    assert any(f"{result.manifest.entries} of 240 inputs are stored" in n for n in result.manifest.notes)


def test_a_budget_that_all_fits_into_changes_nothing(tmp_path):
    result = make(tmp_path, max_bytes=1 << 40)
    assert result.manifest.entries == 240
    assert result.manifest.notes == []


def test_a_budget_for_nothing_says_what_is_needed(tmp_path, cli):
    samples = random_samples(original(fixture("bert")), [8, 9], seed=1)
    data = write_samples(tmp_path / "data.npz", samples)
    common = ["optimize", fixture("bert"), "--data", data, "-o", tmp_path / "b", "--max-bytes"]
    outcome = cli(*common, "1K")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    needed = outcome.err.split()[-1]
    assert cli(*common, str(int(needed) - 1)).code == 2
    assert cli(*common, needed).code == 0
    assert memo_data(tmp_path / "b").stat().st_size <= int(needed)


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.parametrize("level", ["output", "rows"])
def test_a_tolerance_is_kept_within_the_bytes(tmp_path, level):
    """Variants of two parents of different lengths, with few bytes: both parents are covered."""
    rng = np.random.default_rng(0)
    parents = [rng.integers(5, 60, length) for length in (14, 18)]
    samples = []
    for at in range(240):
        ids = parents[at % 2].copy()
        ids[rng.integers(len(ids))] = rng.integers(5, 60)
        ones, zeros = np.ones((1, len(ids)), np.int64), np.zeros((1, len(ids)), np.int64)
        samples.append({"input_ids": ids[None], "attention_mask": ones, "token_type_ids": zeros})
    data = write_samples(tmp_path / "data.npz", samples)
    whole = onnx_memo.optimize(fixture("bert"), data, tmp_path / "whole", tolerance=0.3, level=level)
    budget = memo_data(whole.path).stat().st_size // 2
    options = {"tolerance": 0.3, "level": level}
    result = onnx_memo.optimize(fixture("bert"), data, tmp_path / "half", max_bytes=budget, **options)
    assert memo_data(result.path).stat().st_size <= budget
    assert 2 <= result.manifest.entries < whole.manifest.entries
    assert any("--max-bytes" in note for note in result.manifest.notes)
    assert result.manifest.predicted["hit_rate"] > 0.5
    with pytest.raises(MemoError, match="give at least"):
        onnx_memo.optimize(fixture("bert"), data, tmp_path / "none", max_bytes=5000, **options)
