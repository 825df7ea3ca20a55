"""Ways to guard that were tried, and what the fit part says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.errors import MemoError
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Seen
from onnx_memo.proof.percentile import percentile


@dataclass(frozen=True)
class Alternative:
    """A way to guard that was tried on the fit part.

    Attributes:
        level: what is reused, as in `rows in int8` or `output and probs`.
        ratio: the time to expect, relative to the original's.
        hit_rate: share of the requests that are reused.
        error: what 95 % of the requests stay within.
        too_few: whether the fit part keeps the promise, but so few requests are held out that they would
            hardly prove it.
    """

    name: str
    level: str
    ratio: float
    hit_rate: float
    error: float
    reason: str
    too_few: bool = False


@dataclass(frozen=True)
class Chance:
    """What the fit part says of a way.

    Attributes:
        kept: it keeps the promise so well that as good a held-out part would prove it.
        too_few: it keeps the promise, but not as well as that.
        held_out: how many requests there are to prove it.
    """

    kept: bool
    too_few: bool
    held_out: int

    @staticmethod
    def of(goal: Goal, seen: Seen, held_out: int) -> Chance:
        """From what the goal's judge says of the fit part."""
        kept = goal.judge.likely(seen, goal.promise, held_out)
        return Chance(kept, not kept and goal.judge.keeps(seen, goal.promise), held_out)

    def __str__(self) -> str:
        if self.too_few:
            return (
                f"the fit part keeps the tolerance, but {self.held_out:,} held-out requests are too few to "
                "prove it"
            )
        return f"the fit part {'keeps' if self.kept else 'does not keep'} the tolerance"


def high_error(errors: npt.NDArray[np.float64]) -> float:
    """The error that 95 % of the requests stay within."""
    return percentile(errors.tolist(), 95)


class NothingPays(MemoError):
    """Nothing saves time within the tolerance.

    Attributes:
        alternatives: what was tried.
        figures: all that was measured, if it came that far, for machines.
    """

    def __init__(
        self,
        reason: str,
        alternatives: Sequence[Alternative] = (),
        figures: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(reason)
        self.alternatives = tuple(alternatives)
        self.figures = figures

    def as_json(self) -> dict[str, Any]:
        """The figures, as far as they were taken."""
        return {"alternatives": [asdict(way) for way in self.alternatives], **(self.figures or {})}
