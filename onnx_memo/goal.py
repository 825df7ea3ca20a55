"""What the user asks for, and how the sample is split to prove it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_memo.errors import MemoError
from onnx_memo.metrics import request_error
from onnx_memo.promise import Promise, requests_needed
from onnx_memo.trial import Outputs

STORE, FIT, HELD_OUT = 0.5, 0.2, 0.3  # of the sample


@dataclass(frozen=True)
class Goal:
    """What the user asked for: a promise about a metric, over some outputs (all, if none are named)."""

    promise: Promise
    metric: str
    outputs: tuple[str, ...] = ()

    def error(self, want: Outputs, have: Outputs) -> float:
        """The error of one request, a batch of one without padding: worst over the outputs."""
        names = self.outputs or tuple(want)
        missing = [name for name in names if name not in want]
        if missing:
            raise MemoError(f"the model has no output '{missing[0]}': it has {', '.join(want)}")
        return request_error(self.metric, {n: want[n][0] for n in names}, {n: have[n][0] for n in names})


@dataclass(frozen=True)
class Split:
    """Numbers of the samples in each part. Sorted by length, as they are captured, are `store` and `fit`."""

    store: npt.NDArray[np.int64]
    fit: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]


def split_samples(count: int, promise: Promise, seed: int = 0) -> Split:
    """Split `count` samples at random.

    Raises:
        MemoError: the held-out part would be too small to prove the promise.
    """
    held = int(np.ceil(HELD_OUT * count))
    needed = requests_needed(promise)
    if held < needed:
        raise MemoError(
            f"{count} inputs are too few for this promise: {needed} must be held out ({HELD_OUT:.0%}); "
            f"give at least {int(np.ceil(needed / HELD_OUT))}, or ask for less with --within or --confidence"
        )
    order = np.random.default_rng(seed).permutation(count)
    stored = int(STORE / (STORE + FIT) * (count - held))
    return Split(order[held:][:stored], order[held:][stored:], order[:held])
