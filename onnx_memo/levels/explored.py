"""What a level could do, at settings from strict to loose: what `advise` looks at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from onnx_memo.levels.inserter import STRICTNESS
from onnx_memo.proof.answer import Answer
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Seen
from onnx_memo.sessions import Runner, runner


@dataclass(frozen=True, eq=False)
class Setting:
    """A setting, and what came of the fit part at it. Each is itself alone.

    Attributes:
        strictness: of the explored model (`memo_strictness`), between 0 and 1.
        hits: which requests were reused, bool[n].
        seen: the distance of their answers.
        decided: what was said of the decision.
        cost: about what a request takes, in a unit of its own: by it settings of one model are compared.
        rounds: whether what is not reused runs in 8 bits; else the original runs.
    """

    strictness: float
    hits: npt.NDArray[np.bool_] = field(repr=False)
    seen: Seen = field(repr=False)
    decided: Seen = field(repr=False)
    cost: float
    rounds: bool = False


def nothing_reused(goal: Goal, answers: Sequence[Answer], cost: float) -> Setting:
    """The setting at which every request runs the original; `answers` are the right ones to the fit part."""
    own = [goal.own(answer) for answer in answers]
    seen, decided = Seen.of([one.judged for one in own]), Seen.of([one.decided for one in own])
    return Setting(0.0, np.zeros(len(own), np.bool_), seen, decided, cost)


class Explored:
    """A guarded model on captured files, with the store part as its store; its settings are tried when asked.

    Attributes:
        level: as in `rows in int8`.
        grid: the strictnesses that can be tried, strict to loose.
        literal: the setting at which literal repeats alone are reused.
        bytes: of the memo data for the whole sample, as far as it would be stored.
    """

    def __init__(
        self,
        level: str,
        grid: Sequence[float],
        attempt: Callable[[float], Setting],
        literal: Setting,
        session: ort.InferenceSession,
        size: int,
    ) -> None:
        """`attempt` runs the fit part at a strictness; `session` runs the guarded model."""
        self.level, self.grid, self.literal, self.bytes = level, grid, literal, size
        self._attempt, self._session = attempt, session
        self._tried: dict[float, Setting] = {}

    def at(self, strictness: float) -> Setting:
        """What comes of a strictness; it is tried once."""
        if strictness not in self._tried:
            self._tried[strictness] = self._attempt(strictness)
        return self._tried[strictness]

    @property
    def tried(self) -> list[Setting]:
        """The settings of the grid that were tried, strict to loose."""
        return [self._tried[strictness] for strictness in sorted(self._tried)]

    def runner(self, setting: Setting) -> Runner:
        """Runs a request at a setting."""
        return runner(self._session, {STRICTNESS: np.asarray(setting.strictness, np.float32)})
