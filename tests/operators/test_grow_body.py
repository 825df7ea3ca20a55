"""MemoGrow: its standard body and its kernel against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import MODES, OPSETS, run_operator
from support_operators import (
    INF,
    LENGTHS,
    MISS,
    NAN,
    SEEDS,
    f32,
    i64,
    random_batch,
    random_rows,
)

from onnx_memo.operators.reference import memo_grow
from onnx_memo.store.data import offsets_of


def dyadic_grow(
    rng: np.random.Generator, mode: str, lengths: np.ndarray, padding: int, share: float
) -> dict[str, np.ndarray]:
    """All norms, weights and predicted changes are exact in f32, so that ties are ties."""
    entry, length = random_batch(rng, mode, lengths)
    padded, width, total = int(lengths.max()) + padding, 5, int(lengths.sum())
    norm = rng.choice([0, 0.5, 1, 1, 1, 2], total).astype(np.float16)
    stored = norm[:, None] * np.eye(width, dtype=np.float16)[rng.integers(0, width, total)]
    rows = random_rows(rng, entry, length, padded, share)
    offsets = offsets_of(lengths)
    origin = np.where(entry == MISS, 0, offsets[entry])[rows // padded] + rows % padded
    states = stored[origin % total].astype(np.float32)
    moves = f32([0, 0, 1 / 16, 0.5, 1, 100])
    states[np.arange(len(rows)), rng.integers(0, width, len(rows))] += rng.choice(moves, len(rows))
    places, pairs = (len(entry), padded), (lengths**2).sum()
    return {
        "states": states,
        "rows": rows,
        "change": f32(rng.choice([0, 0.5, 8], places)),
        "predicted": f32(rng.choice([0, 0, 1 / 16, 0.25, 1], places)),
        "entry": entry,
        "length": length,
        "stored": stored,
        "influence": (rng.integers(0, 17, pairs) / 16).astype(np.float16),
        "offsets": offsets,
        "squares": offsets_of(lengths**2),
        "bound": f32(1),
        "correction": rng.standard_normal((width, width), np.float32),
        "rollout": (rng.random(pairs) ** 3).astype(np.float16),
    }


def assert_grown_as_specified(mode: str, inputs: dict[str, np.ndarray], opset: int = 17) -> None:
    have = run_operator("MemoGrow", mode, *inputs.values(), opset=opset)
    want = memo_grow(*inputs.values())
    for a, b in zip(have[1:3], want[1:3], strict=True):
        np.testing.assert_array_equal(a, b, strict=True)
    np.testing.assert_allclose(have[0], want[0], rtol=1e-4, atol=1e-3, strict=True)
    np.testing.assert_allclose(have[3], want[3], rtol=1e-5, atol=1e-6, strict=True)
    old = np.isin(have[1], inputs["rows"])
    np.testing.assert_array_equal(have[0][old], inputs["states"])


@pytest.mark.parametrize("mode", MODES)
@given(
    lengths=LENGTHS,
    padding=st.integers(0, 3),
    share=st.sampled_from([0.0, 0.2, 0.6, 1.0]),
    bound=st.sampled_from([-1.0, 0.0, 1 / 16, 0.25, 0.5, 1.0, 1.0, 4.0, 20.0, INF, NAN]),
    opset=st.sampled_from(OPSETS),
    seed=SEEDS,
)
@settings(deadline=None, max_examples=150)
def test_grow_equals_the_reference(mode, lengths, padding, share, bound, opset, seed):
    inputs = dyadic_grow(np.random.default_rng(seed), mode, lengths, padding, share)
    assert_grown_as_specified(mode, inputs | {"bound": f32(bound)}, opset)


def inputs_by_hand() -> dict[str, np.ndarray]:
    """4 tokens padded to 5, stored as 1, 2, 4 and 8; the second entry of two. Token 1 runs and changed.

    It is 3 now, half as much again. Of that it moves token 0 all and token 2 half.
    """
    influence, rollout = np.zeros((2, 4, 4), np.float16)
    influence[1], influence[2, 3] = [1, 1, 0.5, 0], 2
    rollout[1] = [1, 1, 2, 1]
    return {
        "states": f32([[3]]),
        "rows": i64(1),
        "change": f32([[0, 0.25, 0, 0, 0]]),
        "predicted": f32([[0, 9, 0, 0, 9]]),
        "entry": i64(1),
        "length": i64(4),
        "stored": np.array([[99], [1], [2], [4], [8]], np.float16),
        "influence": np.append([7], influence).astype(np.float16),
        "offsets": i64(0, 1),
        "squares": i64(0, 1),
        "bound": f32(1),
        "correction": f32([[10]]),
        "rollout": np.append([7], rollout).astype(np.float16),
    }


def grow_of(mode: str, bound: float, **changes: Any) -> tuple[list[int], list[float], list[float]]:
    """The rows that run then, their states, and what is predicted."""
    inputs = inputs_by_hand() | {"bound": f32(bound)}
    for name, array in changes.items():
        inputs[name] = np.array(array, inputs[name].dtype)
    states, rows, stored_rows, predicted = run_operator("MemoGrow", mode, *inputs.values())
    assert stored_rows.tolist() == (1 + rows).tolist()
    assert predicted.shape == (1, 5)
    return rows.tolist(), states.ravel().tolist(), predicted.ravel().tolist()


def test_rows_join_for_which_more_than_the_bound_is_predicted(mode):
    predicted = [0.5, 0.5, 0.25, 0, 0]
    assert grow_of(mode, 0.5) == ([1], [3], predicted)
    assert grow_of(mode, 0.49) == ([0, 1], [11, 3], predicted)
    assert grow_of(mode, 0.25) == ([0, 1], [11, 3], predicted)
    assert grow_of(mode, 0.24) == ([0, 1, 2], [11, 3, 24], predicted)


def test_all_rows_join_without_a_bound_and_none_at_an_infinite_one(mode):
    assert grow_of(mode, INF)[:2] == ([1], [3])
    for bound in (-1, NAN):
        assert grow_of(mode, bound)[:2] == ([0, 1, 2, 3], [11, 3, 24, 18])


def test_where_all_rows_run_none_join(mode):
    states = [[1], [3], [4], [8]]
    rows, grown, predicted = grow_of(mode, 0, states=states, rows=[0, 1, 2, 3])
    assert (rows, grown) == ([0, 1, 2, 3], [1, 3, 4, 8])
    assert predicted == [0.5, 0.5, 0.25, 0, 0]


def test_what_was_predicted_counts_for_rows_that_do_not_run(mode):
    rows, states, predicted = grow_of(mode, 0.25, predicted=[[0, 9, 0.25, 9, 9]])
    assert predicted == [0.5, 0.5, 0.25, 0.5, 0]
    assert (rows, states) == ([0, 1, 3], [11, 3, 18])


def test_only_rows_that_changed_pass_something_on(mode):
    """Those that do not run do not, even if they changed."""
    assert grow_of(mode, 0.25, change=[[8, 0, 8, 8, 8]])[:2] == ([0, 1], [1, 3])


def test_a_change_counts_at_most_eightfold(mode):
    for state in (18, 1000, INF, NAN):
        rows, states, predicted = grow_of(mode, 4, states=[[state]])
        assert predicted == [8, 8, 4, 0, 0]
        assert rows == [0, 1]
        assert np.isfinite(states[0]) == np.isfinite(state)


def test_a_stored_state_of_zero(mode):
    stored = [[99], [1], [0], [4], [8]]
    assert grow_of(mode, 4, stored=stored)[2] == [8, 8, 4, 0, 0]
    assert grow_of(mode, 4, stored=stored, states=[[0]]) == ([1], [0], [0] * 5)


def test_a_predicted_nan_joins(mode):
    influence = inputs_by_hand()["influence"]
    influence[1 + 4] = NAN  # of token 1 on token 0
    rows, _, predicted = grow_of(mode, INF, influence=influence)
    assert rows == [0, 1]
    assert np.isnan(predicted[0])


@pytest.mark.parametrize("bound", [0.5, 0.4])
def test_a_sequence_of_one_token(mode, bound):
    inputs = inputs_by_hand() | {
        **{"length": i64(1), "change": f32([[0]]), "predicted": f32([[0.5]]), "bound": f32(bound)},
        **{"influence": np.array([7, 1], np.float16), "rollout": np.array([7, 1], np.float16)},
    }
    for run in False, True:
        some = {"states": f32([[3]])[: int(run)], "rows": i64(0)[: int(run)]}
        assert_grown_as_specified(mode, inputs | some)


def test_sequences_without_an_entry_are_copied_beside_others(mode):
    one = inputs_by_hand()
    inputs = one | {
        **{"entry": i64(MISS, 1, MISS), "length": i64(2, 4, 0), "bound": f32(0.25)},
        **{"states": f32([[5], [6], [3]]), "rows": i64(0, 1, 6)},
        **{name: np.vstack([f32([[7] * 5]), one[name], f32([[7] * 5])]) for name in ("change", "predicted")},
    }
    states, rows, stored_rows, predicted = run_operator("MemoGrow", mode, *inputs.values())
    assert states.ravel().tolist() == [5, 6, 11, 3]
    assert (rows.tolist(), stored_rows.tolist()) == ([0, 1, 5, 6], [0, 0, 1, 2])
    assert predicted.tolist() == [[0] * 5, [0.5, 0.5, 0.25, 0, 0], [0] * 5]
    assert_grown_as_specified(mode, inputs)
