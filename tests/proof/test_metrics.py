"""How wrong an answer is: exact where nothing changed, infinite where nothing can be said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnx_memo import MemoError
from onnx_memo.proof.metrics import METRICS, argmax, cosine, cosine_by_token, relative, request_error

ALL = [*METRICS.values(), cosine_by_token]
DTYPES = st.sampled_from([np.float16, np.float32, np.float64])
SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, max_side=6).filter(lambda shape: shape[-1] > 1)
ROWS = st.tuples(DTYPES, SHAPES).flatmap(lambda kind: hnp.arrays(*kind))
FINITE = st.tuples(DTYPES, SHAPES).flatmap(
    lambda kind: st.tuples(
        *[hnp.arrays(*kind, elements={"allow_nan": False, "allow_infinity": False})] * 2,
        hnp.arrays(bool, kind[1][0]),
    )
)


# ---- What holds for every metric


@given(ROWS, st.sampled_from(ALL), st.data())
@settings(deadline=None)
def test_equal_outputs_have_an_error_of_exactly_0(row, metric, data):
    mask = data.draw(st.none() | hnp.arrays(bool, len(row)))
    assert metric(row, row.copy(), mask) == 0.0


@given(FINITE, st.sampled_from(ALL))
@settings(deadline=None)
def test_an_error_is_a_number_of_at_least_0(rows, metric):
    assert metric(*rows) >= 0


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_broke_is_an_infinite_error(metric, bad):
    want = np.array([[1, 2], [3, 4]], np.float32)
    have = want.copy()
    have[1, 0] = bad
    assert metric(want, have) == math.inf
    assert metric(have, want) == math.inf
    assert metric(want, have, np.array([True, False])) == 0, "padding does not count"


@pytest.mark.parametrize("metric", ALL)
def test_classes_that_the_original_rules_out_as_well_are_left_out(metric):
    want = np.array([-math.inf, 2, 1])
    assert metric(want, np.array([-math.inf, 4, 2])) == (1 if metric is relative else pytest.approx(0))
    assert metric(want, np.array([math.inf, 2, 1])) == math.inf


@pytest.mark.parametrize("metric", ALL)
def test_padding_does_not_count(metric):
    want = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    have = np.array([[1, 2], [3, 4], [9, -9]], np.float32)
    assert metric(want, have, np.array([True, True, False])) == 0
    assert metric(want, have, np.array([True, True, True])) > 0


@pytest.mark.parametrize("metric", ALL)
def test_an_embedding_as_wide_as_the_request_is_long_is_no_row_of_tokens(metric):
    assert metric(np.array([3.0, 1.0]), np.array([3.0, 9.0]), np.array([True, False])) > 0


@pytest.mark.parametrize("metric", ALL)
def test_a_mask_without_a_real_token_is_ignored(metric):
    want, have = np.array([[1.0, 2.0]]), np.array([[2.0, 1.0]])
    assert metric(want, have, np.array([False])) == metric(want, have) > 0


@pytest.mark.parametrize("metric", ALL)
def test_outputs_of_different_shapes_are_a_defect_of_ours(metric):
    with pytest.raises(AssertionError, match="shapes"):
        metric(np.zeros((2, 2)), np.zeros((1, 2)))


# ---- cosine


@pytest.mark.parametrize(
    ("want", "have", "expected"),
    [
        ([1, 0], [1, 0], 0),
        ([1, 0], [5, 0], 0),
        ([1, 0], [0, 2], 1),
        ([1, 0], [-3, 0], 2),
        ([1, 0], [1, 1], 1 - math.sqrt(0.5)),
        ([0, 0], [0, 0], 0),
        ([0, 0], [1, 0], 1),
        ([1, 0], [0, 0], 1),
        ([1e-300, 0], [1e300, 1e300], 1 - math.sqrt(0.5)),
    ],
)
def test_cosine_is_1_minus_the_cosine_of_the_angle(want, have, expected):
    assert cosine(np.array(want, float), np.array(have, float)) == pytest.approx(expected, abs=1e-15)


@given(st.floats(-8, -1).map(lambda power: 10**power))
def test_cosine_loses_nothing_at_small_angles(angle):
    turned = np.array([math.cos(angle), math.sin(angle)])
    assert cosine(np.array([1.0, 0.0]), turned) == pytest.approx(2 * math.sin(angle / 2) ** 2, rel=1e-6)


def test_cosine_of_tokens_is_that_of_their_mean():
    want = np.array([[1.0, 0.0], [0.0, 1.0], [7.0, 7.0]])
    have = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    mask = np.array([True, True, False])
    assert cosine(want, have, mask) == pytest.approx(0)
    assert cosine_by_token(want, have, mask) == pytest.approx(1), "what the mean hides"
    assert cosine(want, have) > 0.1, "without a mask there are no tokens"


def test_token_by_token_the_worst_token_counts():
    want = np.eye(3)
    have = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, -1.0]])
    assert cosine_by_token(want, have, np.ones(3, bool)) == pytest.approx(2)
    assert cosine_by_token(want, have, np.array([True, True, False])) == pytest.approx(1 - math.sqrt(0.5))


# ---- relative


@pytest.mark.parametrize(
    ("want", "have", "expected"),
    [
        ([3, 4], [3, 4], 0),
        ([3, 4], [3, 3], 0.2),
        ([3, 4], [0, 0], 1),
        ([0, 0], [0, 0], 0),
        ([0, 0], [0, 1e-9], math.inf),
        ([3e-300, 4e-300], [3e-300, 3e-300], 0.2),
        ([3e300, 4e300], [3e300, 3e300], 0.2),
        ([1e-300, 0], [1e300, 0], math.inf),
    ],
)
def test_relative_is_the_distance_over_the_size_of_the_original(want, have, expected):
    assert relative(np.array(want, float), np.array(have, float)) == pytest.approx(expected)


def test_half_precision_does_not_overflow():
    assert relative(np.full(100, 6e4, np.float16), np.full(100, -6e4, np.float16)) == pytest.approx(2)


@given(FINITE, st.floats(0.25, 4))
@settings(deadline=None)
def test_relative_and_cosine_do_not_depend_on_the_unit(rows, unit):
    want, have, mask = rows
    a, b = want.astype(np.float64) / 1e200, have.astype(np.float64) / 1e200
    assume(all(np.abs(x[x != 0]).min(initial=1) > 1e-100 for x in (a * 1e150, b * 1e150)))
    for metric in (relative, cosine_by_token):
        assert metric(a * unit, b * unit, mask) == pytest.approx(metric(a, b, mask), rel=1e-6, abs=1e-9)


# ---- argmax


def test_argmax_is_the_share_of_positions_whose_best_class_changed():
    want = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 3.0, 2.0], [3.0, 1.0, 2.0]])
    have = want.copy()
    have[1] = [0.0, 2.0, 1.0]
    assert argmax(want, have) == 0.25
    assert argmax(want, have, np.array([True, True, False, False])) == 0.5
    assert argmax(want[1], have[1]) == 1


def test_argmax_does_not_see_a_change_that_changes_no_class():
    assert argmax(np.array([1.0, 2.0]), np.array([-5.0, 90.0])) == 0


# ---- A request


def test_the_worst_output_counts_and_outputs_that_are_no_floats_do_not():
    want = {"a": np.array([1.0, 0.0]), "b": np.array([2.0, 0.0]), "ids": np.array([1, 2])}
    have = {"a": np.array([1.0, 0.0]), "b": np.array([2.0, 1.0]), "ids": np.array([9, 9]), "c": np.ones(1)}
    assert request_error("relative", want, have) == 0.5
    assert request_error("relative", {"a": want["a"]}, have) == 0


def test_an_unknown_metric_is_refused():
    with pytest.raises(MemoError, match="--metric takes cosine, relative, argmax, not 'l2'"):
        request_error("l2", {"a": np.ones(2)}, {"a": np.ones(2)})


def test_outputs_without_a_float_are_refused():
    ids = {"ids": np.array([1, 2])}
    with pytest.raises(MemoError, match="none among: ids; choose another with --output"):
        request_error("cosine", ids, ids)


@pytest.mark.parametrize("row", [np.float32(1.0).reshape(()), np.ones(1), np.ones((5, 1))])
def test_argmax_of_a_single_class_is_refused_because_it_could_never_fail(row):
    with pytest.raises(MemoError, match="output 'score' has one number: take --metric spread"):
        request_error("argmax", {"score": row}, {"score": row})


def test_a_scalar_output_can_be_compared():
    want, have = {"score": np.asarray(2.0)}, {"score": np.asarray(3.0)}
    assert request_error("relative", want, have) == 0.5
    assert request_error("cosine", want, have, np.ones(4, bool)) == 0
