"""Numbers go with their words."""

from __future__ import annotations

import pytest

from onnx_memo.words import counted


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 inputs were"), (1, "1 input was"), (2, "2 inputs were"), (1200, "1,200 inputs were")],
)
def test_one_thing_is_one(number, said):
    assert counted(number, "input was", "inputs were") == said


def test_most_words_take_an_s():
    assert [counted(number, "row") for number in (1, 2)] == ["1 row", "2 rows"]
