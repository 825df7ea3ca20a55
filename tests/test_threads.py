"""Independent work side by side: in order, few ahead, and no more after one that fails."""

from __future__ import annotations

import threading

import pytest
from support import fixture, variants, write_samples
from threadpoolctl import threadpool_info, threadpool_limits

import onnx_memo
from onnx_memo import threads
from onnx_memo.threads import cores, side_by_side

FEW = 4


@pytest.fixture(autouse=True)
def four_cores(monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: FEW)


def test_results_come_in_order_whoever_is_ready_first():
    second = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second.wait(10), "the second is worked on beside the first"
        second.set()
        return item

    assert [*side_by_side(work, range(50))] == [*range(50)]


def test_no_more_threads_than_are_asked_for():
    seen = {threading.get_ident()}
    assert [*side_by_side(lambda item: seen.add(threading.get_ident()), range(50), most=1)] == [None] * 50
    assert len(seen) == 2


def test_few_results_wait_to_be_taken():
    begun: list[int] = []
    results = side_by_side(lambda item: begun.append(item) or item, range(1000))
    assert next(results) == 0
    assert len(begun) <= FEW + 1
    results.close()
    assert len(begun) <= FEW + 1


def test_what_an_item_raises_is_raised_in_its_turn_and_ends_the_work():
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise ValueError("the fourth")
        return item

    results = side_by_side(work, range(1000))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="the fourth"):
        next(results)
    assert len(begun) < 20


def test_nothing_gives_nothing():
    assert [*side_by_side(str, [])] == []


def test_a_process_may_use_at_least_one_core():
    assert cores() >= 1


def test_a_run_has_linear_algebra_on_one_thread(tmp_path):
    """Whoever calls it: the tests as a whole have it so, too, and are let out of it here."""
    seen = set()

    def progress(step: str, parts: int):
        seen.update(one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas")
        return lambda: None

    data = write_samples(tmp_path / "data.npz", variants(10, seed=1))
    with threadpool_limits(limits=2, user_api="blas"):
        onnx_memo.optimize(fixture("bert"), data, tmp_path / "bundle", progress=progress)
    assert seen == {1}
