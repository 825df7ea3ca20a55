"""Accuracy before and after: intervals that hold the truth as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_memo.proof.accuracy import Accuracy, Estimate, Z, accuracy_of, newcombe, wilson

TABLES = st.tuples(*[st.integers(0, 400)] * 4).filter(any)


# ---- One share


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [
        # The examples of Newcombe, Statistics in Medicine 17, 1998, pages 857 to 872.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_of_a_share_is_wilsons(successes, count, low, high):
    found = wilson(successes, count)
    assert found.value == successes / count
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000), st.data())
def test_its_ends_are_the_shares_that_the_observed_one_is_z_deviations_from(count, data):
    found = wilson(data.draw(st.integers(0, count)), count)
    assert 0 <= found.low <= found.value <= found.high <= 1
    for end in {found.low, found.high} - {0.0, 1.0}:
        assert abs(found.value - end) == pytest.approx(Z * math.sqrt(end * (1 - end) / count), rel=1e-6)


# ---- A difference


def by_the_paper(a: int, b: int, c: int, d: int) -> tuple[float, float]:
    """Method 10 in the paper's letters."""
    n = a + b + c + d
    one, two = wilson(a + b, n), wilson(a + c, n)
    dl1, du1 = one.value - one.low, one.high - one.value
    dl2, du2 = two.value - two.low, two.high - two.value
    product, phi = (a + b) * (c + d) * (a + c) * (b + d), 0.0
    if product:
        top = a * d - b * c
        phi = (top - n / 2 if top > n / 2 else 0 if top >= 0 else top) / math.sqrt(product)
    delta = math.sqrt(max(dl1**2 - 2 * phi * dl1 * du2 + du2**2, 0))
    epsilon = math.sqrt(max(du1**2 - 2 * phi * du1 * dl2 + dl2**2, 0))
    return (b - c) / n - delta, (b - c) / n + epsilon


@given(TABLES)
def test_the_interval_of_a_difference_is_newcombes_and_within_minus_1_and_1(table):
    found = newcombe(*table)
    assert (found.low, found.high) == pytest.approx(by_the_paper(*table), abs=1e-9)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high  # nothing is certain, however few differ


@given(TABLES)
def test_it_is_symmetric(table):
    """Models that change places turn it around, and so does calling right what is wrong."""
    both, first, second, neither = table
    found = newcombe(both, first, second, neither)
    turned = [-found.value, -found.high, -found.low]
    for other in (newcombe(both, second, first, neither), newcombe(neither, second, first, both)):
        assert [other.value, other.low, other.high] == pytest.approx(turned, abs=1e-12)


@pytest.mark.parametrize(
    "shares",
    [  # right in both, in the first alone, in the second alone, in neither
        (0.70, 0.05, 0.05, 0.20),
        (0.90, 0.01, 0.01, 0.08),
        (0.70, 0.01, 0.03, 0.26),
        (0.97, 0.01, 0.01, 0.01),
        (0.50, 0.20, 0.10, 0.20),
    ],
)
@pytest.mark.parametrize("count", [60, 180, 1000])
def test_the_truth_is_in_it_as_often_as_it_says(shares, count):
    """95 %, but for the steps of counts: never much less, and more where hardly any differ."""
    truth = shares[1] - shares[2]
    drawn = np.random.default_rng(0).multinomial(count, shares, 2000)
    found = [newcombe(*map(int, table)) for table in drawn]
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert covered >= 0.935
    if count * (shares[1] + shares[2]) >= 50:
        assert covered <= 0.965


# ---- Of two models


@given(st.lists(st.tuples(*[st.integers(-1, 2)] * 3), min_size=1, max_size=60))
def test_it_is_counted_how_often_each_is_right(requests):
    labels, before, after = np.asarray(requests).T
    found = accuracy_of("y", labels, before, after.astype(np.float64))
    assert found.requests == len(requests)
    assert found.before.value == pytest.approx(np.mean(before == labels))
    assert found.after.value == pytest.approx(np.mean(after == labels))
    assert found.difference.value == pytest.approx(found.after.value - found.before.value)
    assert found.lost == sum(b == label != a for label, b, a in requests)
    assert found.gained == sum(a == label != b for label, b, a in requests)


def of_counts(both: int, lost: int, gained: int, neither: int) -> Accuracy:
    before = [1] * (both + lost) + [0] * (gained + neither)
    after = [1] * both + [0] * lost + [1] * gained + [0] * neither
    return accuracy_of("y", [1] * len(before), before, after)


@pytest.mark.parametrize(
    ("lost", "gained", "verdict"),
    [
        (0, 0, "no difference was seen"),
        (4, 1, "no difference was seen"),
        (30, 5, "the bundle is right less often"),
        (5, 30, "the bundle is right more often"),
    ],
)
def test_a_difference_is_seen_where_its_interval_does_not_hold_0(lost, gained, verdict):
    found = of_counts(150, lost, gained, 40)
    assert found.verdict == verdict
    assert str(found).endswith(f"{lost} lost, {gained} gained): {verdict}")


def test_an_end_at_0_is_no_difference():
    edge, half = Estimate(0.1, 0.0, 0.2), Estimate(0.5, 0.4, 0.6)
    assert Accuracy("y", 9, 1, 2, half, half, edge).verdict == "no difference was seen"


def test_it_is_told_in_one_line():
    assert str(of_counts(150, 4, 1, 45)) == (
        "accuracy by 'y', 200 requests: 77.0% (70.7% to 82.3%) before, 75.5% (69.1% to 80.9%) after; "
        "difference -1.5 points (95 % interval -4.1 to +1.0; 4 lost, 1 gained): no difference was seen"
    )
