"""Figures as people read them, and the scales that values stand on."""

from __future__ import annotations

import math

import pytest

from onnx_memo.report.numbers import figure, most_outside, percent
from onnx_memo.report.scales import scale


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (0.00081, "0.000810"),
        (3.14e-5, "3.1 \N{MULTIPLICATION SIGN} 10⁻⁵"),
        (-2, "\N{MINUS SIGN}2.00"),
        (math.inf, "∞"),
        (math.nan, "\N{EN DASH}"),
    ],
)
def test_figures(value, text):
    assert figure(value).replace("\xa0", " ") == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.942, "94 %"),
        (0.9991, "99.9 %"),
        (0.99999, "over 99.9 %"),
        (0.00001, "under 0.1 %"),
        (math.nan, "\N{EN DASH}"),
    ],
)
def test_shares_never_round_to_all_or_nothing(share, text):
    assert percent(share).replace("\xa0", " ") == text


def test_how_many_may_be_outside():
    assert [most_outside(n, 0.95, 0.95) for n in (0, 58, 59, 150)] == [None, None, 0, 2]
    assert most_outside(100_000, 0.95, 0.95) == pytest.approx(4886, abs=2)
    assert most_outside(150, 1.0, 0.95) is None


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "values", [[], [0], [5], [0, 1e-12], [-3, 8], [1e-7, 1e7], [math.inf], [math.nan, 2], [1e-300, 1e300]]
)
def test_scales_place_every_value_and_have_ticks(values, log):
    made = scale(values, 10, 400, log=log)
    for value in values:
        assert 10 <= made.at(value) <= 400
    ticks = made.ticks()
    assert 2 <= len(ticks) <= 9
    assert len({label for _, label in ticks}) == len(ticks)


def test_what_is_under_the_scale_is_zero_or_less_than_its_low_end():
    """The strip below a logarithmic scale: zeros alone, or small values as well."""
    assert not scale([0, 1, 50], 0, 100, log=True).cut
    assert scale([0, 1e-9, 50], 0, 100, log=True).cut
