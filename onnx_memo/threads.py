"""Linear algebra on one thread.

The matrices here are small. Several threads of a BLAS gain little on them, and beside other work they wait
for each other so long that the same step was measured to take ten times as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """NumPy computes on one thread inside."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield
