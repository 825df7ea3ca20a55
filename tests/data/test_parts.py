"""The parts of the sample, and what they tell of traffic that repeats itself."""

import numpy as np
import pytest

from onnx_memo.data.parts import make_parts, split_samples
from onnx_memo.data.samples import Samples
from onnx_memo.errors import MemoError
from onnx_memo.proof.promise import Promise
from onnx_memo.store.budget import within

PROMISE = Promise(0.01, within=0.9, confidence=0.9)


def samples(tokens, lengths=None):
    """Each input is one token, as often as its length says: once, if nothing is said."""
    lengths = [1] * len(tokens) if lengths is None else [int(length) for length in lengths]
    arrays = [{"ids": np.full((1, n), token, np.int64)} for token, n in zip(tokens, lengths, strict=True)]
    return Samples(arrays, lengths, None)


def test_the_parts_are_disjoint_and_complete():
    split = split_samples(300, Promise(0.1))
    parts = np.concatenate([split.store, split.fit, split.held_out])
    assert sorted(parts) == list(range(300))
    assert (len(split.store), len(split.fit), len(split.held_out)) == (150, 60, 90)


def test_a_sample_that_is_too_small_for_the_promise_is_refused():
    with pytest.raises(MemoError, match=r"193 inputs are too few.*59 must be held out \(30%\).*at least 197"):
        split_samples(193, Promise(0.1))
    assert len(split_samples(197, Promise(0.1)).held_out) >= 59


def test_a_ranking_takes_more_of_the_fit_part():
    some = samples(range(1000))
    parts = make_parts(some, PROMISE)
    ranked = parts.to_rank(some)
    assert (len(parts.fit), len(ranked.fit)) == (150, 200)
    held_out = {int(arrays["ids"].item()) for arrays in parts.held_out.arrays}
    assert {int(arrays["ids"].item()) for arrays in ranked.fit.arrays} == {*parts.split.fit.tolist()}
    assert held_out == {*parts.split.held_out.tolist()} == {*ranked.split.held_out.tolist()}
    assert len(make_parts(samples(range(4000)), PROMISE).to_rank(samples(range(4000))).fit) == 600


def test_without_repeats_all_held_out_requests_count_the_same():
    parts = make_parts(samples(range(200)), PROMISE)
    assert parts.repeats == 0
    assert not parts.known.any()
    assert parts.weights == pytest.approx(1)


def test_where_all_is_one_input_all_repeats():
    parts = make_parts(samples([7] * 200), PROMISE)
    assert parts.repeats == pytest.approx(1)
    assert parts.weights == pytest.approx(1)


def test_the_whole_sample_tells_how_much_of_the_traffic_repeats():
    tokens = np.random.default_rng(0).zipf(1.3, 400)
    parts = make_parts(samples(tokens), PROMISE)
    split = split_samples(400, PROMISE)
    stored = tokens[[*split.store, *split.fit]]
    left_out = [token in np.delete(stored, at) for at, token in enumerate(stored)]
    held_out = np.isin(tokens[split.held_out], stored)
    assert (parts.known == held_out).all()
    assert parts.repeats == pytest.approx(np.mean([*left_out, *held_out]))
    assert parts.weights.mean() == pytest.approx(1)


def test_it_tells_as_well_how_long_requests_are():
    """Repeats are short and others long, or the other way round: shares of tokens are the sample's."""
    rng = np.random.default_rng(2)
    lengths = rng.integers(1, 40, 400)
    parts = make_parts(samples(np.zeros(400, np.int64), lengths), PROMISE)
    own = np.asarray([parts.held_out.extent(at) for at in range(len(parts.held_out))])
    weighted, plain = (parts.weights * own).mean(), own.mean()
    assert abs(weighted - lengths.mean()) < 0.5 * abs(plain - lengths.mean())


def test_the_whole_sample_tells_it_better_than_the_held_out_part():
    rng = np.random.default_rng(1)
    chances = np.arange(1, 2001.0) ** -1
    chances /= chances.sum()
    errors = []
    for _ in range(60):
        tokens = rng.choice(2000, 300, p=chances)
        parts = make_parts(samples(tokens), PROMISE)
        stored = np.unique([int(arrays["ids"][0, 0]) for arrays in parts.stored.arrays])
        true = chances[stored].sum()  # of requests to come
        errors.append((parts.repeats - true, parts.known.mean() - true))
    whole, held_out = np.square(errors).mean(axis=0)
    assert whole < 0.7 * held_out


def test_what_is_stored_in_part_is_judged_by_the_held_out_part():
    class OneInput:
        """Room for the first input alone."""

        def fill(self, counts, wanted, first=None):
            return np.arange(len(counts)) == 0

        def note(self, kept):
            return f"{kept} kept"

    tokens = np.random.default_rng(0).zipf(1.3, 400)
    notes = []
    parts = within(make_parts(samples(tokens), PROMISE), OneInput(), notes)
    assert notes == ["1 kept"]
    assert 0 < parts.repeats == parts.known.mean() < 1
