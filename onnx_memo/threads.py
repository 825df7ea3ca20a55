"""Who computes on how many threads.

Linear algebra takes one: the matrices here are small. Several threads of a BLAS gain little on them, and
beside other work they wait for each other so long that the same step was measured to take ten times as long.
Requests that are independent run side by side, wherever nobody looks at the clock.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits

MOST = 8  # threads: each holds a request's activations

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_thread() -> Iterator[None]:
    """NumPy computes on one thread inside."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield


def cores() -> int:
    """How many cores this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item], most: int = MOST) -> Iterator[Result]:
    """What `work` makes of each item, in order, by as many threads as there are cores, up to `most`.

    It gains where `work` lets go of Python's lock, as sessions and large array operations do. What an item
    raises is raised in its turn, and then no more are begun. Few results wait to be taken.
    """
    workers = min(cores(), most)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for one in waiting:
                one.cancel()
