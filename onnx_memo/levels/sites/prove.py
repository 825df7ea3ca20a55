"""The held-out part: what comes of reuse there, seen once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from onnx_memo.proof.goal import Goal, Opinion
from onnx_memo.proof.measure import Seen

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What became of requests that reuse their nearest entry, if there is one of their length.

    Attributes:
        entries: i64[n], -1 where none is comparable.
        distances: f64[n], infinite there.
        forced, missed: what is said of the answers with reuse, and without.
    """

    entries: npt.NDArray[np.int64]
    distances: Floats
    forced: Said
    missed: Said


@dataclass(frozen=True)
class Said:
    """What is said of answers to n requests.

    Attributes:
        seen: by what the promise is about.
        decided: by the decision.
        token_errors: f64[n], cosine token by token, for the report.
    """

    seen: Seen
    decided: Seen
    token_errors: Floats

    @staticmethod
    def of(opinions: Sequence[Opinion]) -> Said:
        """Of requests one by one."""
        return Said(
            Seen.of([one.judged for one in opinions]),
            Seen.of([one.decided for one in opinions]),
            np.asarray([one.token_error for one in opinions]),
        )


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
    entries, distances, forced, missed = [], [], [], []
    advance = job.progress("running the held-out part", len(samples))
    enabled = np.ones(len(candidate.plan.levels), np.bool_)
    for number, feeds in enumerate(samples.arrays):
        outputs, means, length = observer.run(feeds, first)
        want = job.answer(outputs, samples, number)
        entry, distance = nearest_entries(
            candidate.network(means[None]), np.asarray([length]), keys, captured.lengths, everything
        )
        missed.append(goal.own(want))
        found = entry[0] >= 0
        forced.append(goal.opinion(want, trial.run(feeds, int(entry[0]), enabled)) if found else missed[-1])
        entries.append(entry[0])
        distances.append(distance[0])
        advance()
    return Outcome(np.asarray(entries), np.asarray(distances), Said.of(forced), Said.of(missed))
