"""What comes of requests on trial: the answers that count, and what a guarded model makes of the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from onnx_memo.data.samples import Samples
from onnx_memo.job import Job
from onnx_memo.proof.answer import Answer
from onnx_memo.proof.goal import Goal, Opinion
from onnx_memo.proof.measure import Seen
from onnx_memo.proof.percentile import percentile
from onnx_memo.proof.thresholds import CurvePoint
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session, run_model
from onnx_memo.threads import side_by_side

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Original:
    """The original model, one thread, and what came of some requests.

    Attributes:
        answers: the right ones, the original's or a reference's (`onnx_memo.job.Job.answer`).
        seconds: that the original took for each request, f64[n], side by side with others: good for rough
            comparisons.
    """

    session: ort.InferenceSession
    answers: list[Answer]
    seconds: Floats = field(default_factory=lambda: np.zeros(0), repr=False)


def run_original(
    job: Job, samples: Samples, advance: Callable[[], None], session: ort.InferenceSession | None = None
) -> Original:
    """Run every sample through the original model, and the reference, if the job has one.

    `session` is one of an earlier call; None: it is opened.
    """
    opened, names = job.opened, job.opened.outputs
    if session is None:
        session = open_session(opened.model, opened.folder, session_options(native=False, threads=1))
    answers, seconds = [], []
    run = timed(lambda at: run_model(session, samples.arrays[at], at))

    def answered(at: int) -> tuple[Answer, float]:
        result, took = run(at)
        return job.answer(dict(zip(names, result, strict=True)), samples, at), took

    for answer, took in side_by_side(answered, range(len(samples))):
        answers.append(answer)
        seconds.append(took)
        advance()
    return Original(session, answers, np.asarray(seconds))


def timed(work: Callable[[int], list[Any]]) -> Callable[[int], tuple[list[Any], float]]:
    """The same work, and the seconds that it took."""

    def of(at: int) -> tuple[list[Any], float]:
        start = time.perf_counter()
        return work(at), time.perf_counter() - start

    return of


@dataclass(frozen=True)
class Tried:
    """What came of some requests.

    Attributes:
        hits: which were reused, bool[n].
        rows: share of their rows that ran, f64[n]; 1 where nothing is reused.
        seen: by what the promise is about; errors are those of `Measure.own` where the original ran.
        decided: by the decision, likewise.
        token_errors: cosine token by token, f64[n].
        seconds: that each took, f64[n], side by side with others; the original's where it is not reused for
            certain.
        said: what seen and decided are made of, n of them.
    """

    hits: npt.NDArray[np.bool_]
    rows: Floats
    seen: Seen
    decided: Seen
    token_errors: Floats
    seconds: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    said: Sequence[Opinion] = field(default=(), repr=False)

    @staticmethod
    def of(hits: npt.NDArray[np.bool_], rows: Floats, said: Sequence[Opinion], seconds: Floats) -> Tried:
        """From what was said of each request."""
        seen, decided = Seen.of([one.judged for one in said]), Seen.of([one.decided for one in said])
        errors = np.asarray([one.token_error for one in said])
        return Tried(hits, rows, seen, decided, errors, seconds, said)

    @staticmethod
    def nothing_reused(original: Original, goal: Goal) -> Tried:
        """What comes of requests all of which the original runs."""
        count = len(original.answers)
        said = [goal.own(answer) for answer in original.answers]
        return Tried.of(np.zeros(count, np.bool_), np.ones(count), said, original.seconds)

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
