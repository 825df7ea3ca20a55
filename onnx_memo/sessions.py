"""Fair timings: turn by turn, medians, every request counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from onnx_memo.data.samples import Arrays


def race(
    sessions: Sequence[ort.InferenceSession],
    requests: Sequence[Arrays],
    rounds: int,
    advance: Callable[[], None] = lambda: None,
) -> npt.NDArray[np.float64]:
    """Seconds of each request in each session, medians over the rounds: [requests, sessions].

    Every session runs a request before the next request comes. Who goes first changes from turn to turn:
    whoever follows finds the caches warmer.
    """
    times = np.zeros((rounds, len(requests), len(sessions)))
    for turn in range(rounds):
        for at, feeds in enumerate(requests):
            for step in range(len(sessions)):
                which = (turn + at + step) % len(sessions)
                start = time.perf_counter()
                sessions[which].run(None, feeds)
                times[turn, at, which] = time.perf_counter() - start
            advance()
    return np.median(times, axis=0)
