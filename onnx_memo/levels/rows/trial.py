"""Try the guard of an encoder before it is built: on captured files, at any strictness."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnx_memo.data.samples import Samples
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.levels.inserter import STRICTNESS
from onnx_memo.levels.rows.blueprint import RowsBlueprint
from onnx_memo.levels.rows.watch import RowsWatch
from onnx_memo.levels.trial import guarded_on_trial
from onnx_memo.levels.tried import Original, Tried, timed
from onnx_memo.proof.goal import Goal, Opinion
from onnx_memo.runtime import session_options
from onnx_memo.sessions import Raced, open_session, race, runner
from onnx_memo.threads import side_by_side

TIMED, ROUNDS = 16, 3  # requests that are timed, and how often


class RowsTrial:
    """The guarded model on the captured files."""

    def __init__(self, opened: OpenedModel, blueprint: RowsBlueprint) -> None:
        folder = blueprint.captured.folder
        model = guarded_on_trial(opened, blueprint, folder)
        self.names = opened.outputs
        self.rounds = blueprint.settings.misses_in_bytes
        self.watch = RowsWatch(model)
        self.session = open_session(model, folder, session_options(threads=1), scratch=True)

    def run(
        self,
        samples: Samples,
        original: Original,
        strictness: float,
        goal: Goal,
        advance: Callable[[], None],
        looser: Tried | None = None,
    ) -> Tried:
        """Run the samples at a strictness, and compare with what the original gave.

        What was not reused at a `looser` one does not run again.
        """
        extra = {STRICTNESS: np.asarray(strictness, np.float32)}
        hits, rows = np.zeros(len(samples), np.bool_), np.ones(len(samples))
        opinions: dict[int, Opinion] = {}
        candidates = range(len(samples)) if looser is None else np.flatnonzero(looser.hits).tolist()
        for _ in range(len(samples) - len(candidates)):
            advance()
        run = timed(lambda at: self.session.run(None, samples.arrays[at] | extra))
        seconds = (original if looser is None else looser).seconds.copy()
        for at, (came, took) in zip(candidates, side_by_side(run, candidates), strict=True):
            seconds[at] = took
            watched = self.watch.watched(came)
            want, results = original.answers[at], watched.outputs
            if watched.hit:
                mask = want.mask
                length = mask.sum() if mask is not None else max(v.shape[1] for v in results if v.ndim == 3)
                hits[at], rows[at] = True, watched.ran / length
            if watched.hit or self.rounds:
                opinions[at] = goal.opinion(want, dict(zip(self.names, results, strict=True)))
            elif looser is not None:  # where it was reused
                opinions[at] = goal.own(want)
            advance()
        before = [goal.own(answer) for answer in original.answers] if looser is None else looser.said
        said = [opinions.get(at, opinion) for at, opinion in enumerate(before)]
        return Tried.of(hits, rows, said, seconds)

    def race(self, samples: Samples, original: Original, strictness: float) -> Raced:
        """The time that some of the samples take, against the original."""
        strict = {STRICTNESS: np.asarray(strictness, np.float32)}
        runners = [runner(original.session), runner(self.session, strict)]
        return race(runners, samples.arrays[:: max(1, len(samples) // TIMED)], ROUNDS)


class Sweep:
    """The same samples at several strictnesses: what a loose one does not reuse, a stricter one does not."""

    def __init__(self, trial: RowsTrial, samples: Samples, original: Original, goal: Goal) -> None:
        """As for `RowsTrial.run`."""
        self._trial, self._samples, self._original, self._goal = trial, samples, original, goal
        self._tried: dict[float, Tried] = {}

    def at(self, strictness: float, advance: Callable[[], None]) -> Tried:
        """What comes of a strictness."""
        looser = min((one for one in self._tried if one > strictness), default=None)
        before = None if looser is None else self._tried[looser]
        tried = self._trial.run(self._samples, self._original, strictness, self._goal, advance, before)
        self._tried[strictness] = tried
        return tried
