"""Try the guard of an encoder before it is built: on captured files, at any strictness."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from onnx_memo.data.samples import Samples
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.levels.inserter import STRICTNESS
from onnx_memo.levels.rows.blueprint import RowsBlueprint
from onnx_memo.levels.rows.watch import RowsWatch
from onnx_memo.levels.trial import guarded_on_trial
from onnx_memo.proof.answer import Answer
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Seen
from onnx_memo.proof.percentile import percentile
from onnx_memo.proof.thresholds import CurvePoint
from onnx_memo.runtime import session_options
from onnx_memo.sessions import Raced, open_session, race, run_model, runner

TIMED, ROUNDS = 16, 3  # requests that are timed, and how often

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Original:
    """The original model, one thread, and what it gave for some requests."""

    session: ort.InferenceSession
    answers: list[Answer]


def run_original(opened: OpenedModel, samples: Samples, advance: Callable[[], None]) -> Original:
    """Run every sample through the original model."""
    names = opened.outputs
    session = open_session(opened.model, opened.path.parent, session_options(native=False, threads=1))
    answers = []
    for number, feeds in enumerate(samples.arrays):
        outputs = dict(zip(names, run_model(session, feeds, number), strict=True))
        answers.append(Answer(outputs, samples.real(number), feeds))
        advance()
    return Original(session, answers)


@dataclass(frozen=True)
class Tried:
    """What came of some requests.

    Attributes:
        hits: which were reused, bool[n].
        rows: share of their rows that ran, f64[n]; 1 where nothing is reused.
        seen: by what the promise is about; errors are exactly 0 where nothing is reused.
        decided: by the decision, likewise.
        token_errors: cosine token by token, f64[n].
    """

    hits: npt.NDArray[np.bool_]
    rows: Floats
    seen: Seen
    decided: Seen
    token_errors: Floats

    @property
    def errors(self) -> Floats:
        """By what the promise is about, f64[n]."""
        return self.seen.errors

    @property
    def hit_rate(self) -> float:
        """Share of requests that are reused."""
        return float(self.hits.mean())

    @property
    def mean_rows(self) -> float:
        """Mean share of rows that ran, over all requests."""
        return float(self.rows.mean())

    @property
    def mean_rows_of_hits(self) -> float:
        """Mean share of rows that ran, over those that are reused."""
        return float(self.rows[self.hits].mean()) if self.hits.any() else 1.0

    def point(self, tolerance: float) -> CurvePoint:
        """The figures of one strictness."""
        return CurvePoint(
            hit_rate=self.hit_rate,
            mean=float(self.errors.mean()),
            p95=percentile(self.errors.tolist(), 95),
            worst=float(self.errors.max()),
            outside=float((~(self.errors <= tolerance)).mean()),
        )


class RowsTrial:
    """The guarded model on the captured files."""

    def __init__(self, opened: OpenedModel, blueprint: RowsBlueprint) -> None:
        folder = blueprint.captured.folder
        model = guarded_on_trial(opened, blueprint, folder)
        self.names = opened.outputs
        self.watch = RowsWatch(model)
        self.session = open_session(model, folder, session_options(threads=1))

    def run(
        self,
        samples: Samples,
        original: Original,
        strictness: float,
        goal: Goal,
        advance: Callable[[], None],
    ) -> Tried:
        """Run every sample at a strictness, and compare with what the original gave."""
        hits, rows, opinions = [], [], []
        extra = {STRICTNESS: np.asarray(strictness, np.float32)}
        for at, feeds in enumerate(samples.arrays):
            watched = self.watch.watched(self.session.run(None, feeds | extra))
            results, hit = watched.outputs, watched.hit
            have, want = dict(zip(self.names, results, strict=True)), original.answers[at]
            mask = want.mask
            length = mask.sum() if mask is not None else max(v.shape[1] for v in results if v.ndim == 3)
            hits.append(hit)
            rows.append(watched.ran / length if hit else 1.0)
            opinions.append(goal.opinion(want, have) if hit else goal.own(want))
            advance()
        return Tried(
            np.asarray(hits),
            np.asarray(rows),
            Seen.of([one.judged for one in opinions]),
            Seen.of([one.decided for one in opinions]),
            np.asarray([one.token_error for one in opinions]),
        )

    def race(self, samples: Samples, original: Original, strictness: float) -> Raced:
        """The time that some of the samples take, against the original."""
        strict = {STRICTNESS: np.asarray(strictness, np.float32)}
        runners = [runner(original.session), runner(self.session, strict)]
        return race(runners, samples.arrays[:: max(1, len(samples) // TIMED)], ROUNDS)
