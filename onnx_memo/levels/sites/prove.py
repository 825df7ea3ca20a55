"""The held-out part: what comes of reuse there, seen once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_memo.data.samples import Samples
from onnx_memo.graph.site import Site
from onnx_memo.job import Job
from onnx_memo.levels.sites.capture import Capture
from onnx_memo.levels.sites.choose import Candidate, nearest_entries
from onnx_memo.levels.sites.observe import Observer
from onnx_memo.levels.sites.trial import Trial
from onnx_memo.proof.answer import Answer
from onnx_memo.proof.goal import Goal, token_error

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What became of requests that reuse their nearest entry, if there is one of their length.

    Attributes:
        entries: i64[n], -1 where none is comparable.
        distances: f64[n], infinite there.
        errors: f64[n], 0 there.
        token_errors: f64[n], cosine token by token, for the report.
        moved: whose nearest neighbour changes, bool[n].
    """

    entries: npt.NDArray[np.int64]
    distances: Floats
    errors: Floats
    token_errors: Floats
    moved: npt.NDArray[np.bool_]


def run_held_out(
    candidate: Candidate,
    captures: Mapping[str, Capture],
    sites: Mapping[str, Site],
    samples: Samples,
    observer: Observer,
    job: Job,
    goal: Goal,
) -> Outcome:
    """Every held-out request reuses its nearest entry of the whole store; what comes of it."""
    trial = Trial(job.opened, candidate.plan, captures)
    first = candidate.plan.lookups[0]
    captured = captures[candidate.plan.levels[first]]
    keys = candidate.network(captured.means(sites[first]))
    everything = np.ones(len(keys), np.bool_)
    entries, distances, errors, token_errors, moved = [], [], [], [], []
    advance = job.progress("running the held-out part", len(samples))
    enabled = np.ones(len(candidate.plan.levels), np.bool_)
    for number, feeds in enumerate(samples.arrays):
        outputs, means, length = observer.run(feeds, first)
        want = Answer(outputs, samples.real(number))
        entry, distance = nearest_entries(
            candidate.network(means[None]), np.asarray([length]), keys, captured.lengths, everything
        )
        error, token, away = 0.0, 0.0, False
        if entry[0] >= 0:
            have = trial.run(feeds, int(entry[0]), enabled)
            error, token, away = goal.error(want, have), token_error(want, have), goal.moves(want, have)
        entries.append(entry[0])
        distances.append(distance[0])
        errors.append(error)
        token_errors.append(token)
        moved.append(away)
        advance()
    return Outcome(*map(np.asarray, (entries, distances, errors, token_errors, moved)))
