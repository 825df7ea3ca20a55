"""The level `int8` among the others: when it is offered, and what it asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support import (
    assert_identical,
    changed,
    fixture,
    memoized,
    mixing_rows,
    original,
    variants,
    write_samples,
)
from support_encoder import mixing_model
from support_precision import build_int8
from support_rows import opened

import onnx_memo
from onnx_memo.data.samples import Samples
from onnx_memo.errors import MemoError
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.job import Job
from onnx_memo.levels.base import Wanted
from onnx_memo.levels.int8.guard import NAME
from onnx_memo.levels.int8.level import Int8Level, Int8Use, Int8Watch
from onnx_memo.levels.registry import LEVELS, allowed, level_of
from onnx_memo.precision.whole import APART
from onnx_memo.store.data import memo_data
from onnx_memo.store.manifest import GuardedSite

WANTED = Wanted("auto", None)


def offered(level: str, rounding: bool, name: str = "bert", **wanted) -> list[str]:
    found = allowed(opened(fixture(name)), Wanted(level, **wanted), [], rounding)
    return [one.title for one, _ in found]


def test_it_is_offered_where_answers_may_be_rounded():
    assert "int8" in offered("auto", rounding=True)


def test_without_rounding_it_is_left_out():
    titles = offered("auto", rounding=False)
    assert "int8" not in titles
    assert titles == [title for title in offered("auto", rounding=True) if title != "int8"]


@pytest.mark.parametrize("rounding", [True, False])
def test_by_its_name_it_is_the_only_one(rounding):
    assert offered("int8", rounding) == ["int8"]


def test_only_it_rounds_where_nothing_is_reused():
    assert [level.title for level in LEVELS if level.rounds] == ["int8"]


def test_a_model_without_an_encoder_does_not_allow_it(tmp_path):
    notes: list[str] = []
    model = OpenedModel(changed("bert", tmp_path / "model.onnx", mixing_rows))
    found = allowed(model, WANTED, notes, True)
    assert "int8" not in [level.title for level, _ in found]
    assert any("the level 'int8' is not possible: " in note for note in notes)
    with pytest.raises(MemoError, match="does not allow the level 'int8'"):
        allowed(model, replace(WANTED, level="int8"), [], True)


def test_attention_need_not_be_such_that_rows_can_be_run(tmp_path):
    """Here every row's scores depend on what all other rows ask."""
    across = "  s1_{n} = LogSoftmax <axis = 2> (s0_{n})\n  s2_{n} = Add (s1_{n}, bias)\n"
    model = OpenedModel(mixing_model(tmp_path / "model.onnx", across))
    assert model.encoder.why_no_rows is not None
    titles = [level.title for level, _ in allowed(model, WANTED, [], True)]
    assert "int8" in titles and "rows" not in titles


def test_a_manifest_that_names_it_is_known():
    guard = GuardedSite(NAME, "", "int8", 0.0, False, 4, 32, 1.0)
    assert isinstance(level_of([guard]), Int8Level)
    (said,) = level_of([guard]).describe([guard])
    assert said.startswith("nothing is reused")


def test_it_sees_that_nothing_is_reused():
    reuse = Int8Watch().read([np.zeros((3, 5, 8), np.float32)])
    assert {name: hits.tolist() for name, hits in reuse.hits.items()} == {NAME: [False] * 3}


def test_it_needs_room_for_its_weights_alone(tmp_path):
    """No entries: what a bundle stores, and hardly more."""
    build_int8(fixture("bert"), tmp_path / "b", apart=APART[-1])
    stored, model = memo_data(tmp_path / "b").stat().st_size, opened(fixture("bert"))
    needed = Int8Use(model.encoder).bytes_needed(Job(model, Samples([], [], None), tmp_path))
    assert stored <= needed < 1.3 * stored


def test_without_a_tolerance_auto_rounds_nothing(tmp_path):
    """Repeats are stored, and all else is the original to the last bit."""
    stored, unseen = variants(4, seed=1), variants(4, seed=2)
    data = write_samples(tmp_path / "data.npz", stored)
    result = onnx_memo.optimize(fixture("bert"), data, tmp_path / "bundle")
    assert {site.level for site in result.manifest.sites} == {"rows"}

    after, before = memoized(result.path, "stock"), original(fixture("bert"))
    for request in unseen:
        assert_identical(after.run(None, request), before.run(None, request))


def test_it_does_not_go_with_options_of_single_blocks(tmp_path):
    data = write_samples(tmp_path / "data.npz", variants(4, seed=1))
    with pytest.raises(MemoError, match="does not go with --level int8"):
        onnx_memo.optimize(fixture("bert"), data, tmp_path / "b", level="int8", threshold=0.1)
