"""Does `--keep` hold on requests that nothing saw? The study of docs/calibration.md.

Run as `python -m tools.study_splits [--only logs,reranker] [--splits 40]`. For each decision a store part is
captured once, and all other inputs are run through the guarded model at the bounds of a grid. Then fit part,
held-out part and the rest are drawn again and again from these: the bound is sought on the first and proven
on the second, by the code of `optimize`, and the rest says whether the promise was kept. What stands in for
`optimize` is the grid, to which bounds are rounded, and a simple model of time, which chooses between
products in int8 and in floats.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from models.bring import CACHE, RECIPES
from onnx_memo.data.parts import FIT_LIMIT, HELD_OUT, STORE, Parts, Split
from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import Samples, model_inputs
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.job import Job
from onnx_memo.levels.base import PAYS, Brief
from onnx_memo.levels.decide import ANSWERS
from onnx_memo.levels.rows.blueprint import RowsBlueprint
from onnx_memo.levels.rows.propose import learn_rows, precisions
from onnx_memo.levels.rows.search import BOUNDS, TESTED, Search, Tested, prove
from onnx_memo.levels.rows.trial import RowsTrial, Sweep
from onnx_memo.levels.tried import Original, Tried, run_original
from onnx_memo.precision.whole import Rounding
from onnx_memo.progress import silent
from onnx_memo.proof.asked import Asked, goal_of
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Seen
from onnx_memo.proof.promise import Promise, outside
from onnx_memo.sessions import Raced
from onnx_memo.threads import one_thread
from tools.lookalikes.inputs import INPUTS, write
from tools.pages import table, write_section

RESULTS = Path(".cache") / "study_splits.json"
PAGE = Path("docs") / "calibration.md"
KEEPS = (0.95, 0.99)
STEP = 2**0.25  # of the grid
GRID = BOUNDS[-1] * max(TESTED) * STEP ** -np.arange(68.0)
INT8, FLOAT, MISS = (
    (0.04, 0.36),
    (0.06, 0.94),
    1.02,
)  # time of a hit: what it always takes, and by the rows run

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Workload:
    """A model, its inputs (of `tools.lookalikes`), and the decision that people make with its answers.

    Attributes:
        sample: how many inputs `optimize` would be given; the others, up to `inputs` in all, nothing sees.
    """

    title: str
    model: str
    data: str
    decision: str
    inputs: int
    sample: int = 1000


WORKLOADS = {
    "logs": Workload("log lines", "minilm", "sshd", "neighbours", 2500),
    "logs10": Workload("log lines, ten nearest", "minilm", "sshd", "ten-neighbours", 2500),
    "questions": Workload("questions to a bank", "minilm", "questions", "neighbours", 2500),
    "classifier": Workload("utterances, their subject", "classifier", "utterances", "label", 1875),
    "reranker": Workload("pairs of a cross-encoder", "reranker", "pairs", "ranking", 3500, 2000),
    "variants": Workload("variants of an antibody", "antiberty", "variants", "neighbours", 2280),
    "likelihood": Workload("variants of an antibody", "antiberty-mlm", "variants", "likelihood", 2280),
}


class Pool:
    """A guarded model, and what came of all requests at bounds of the grid, each run when it is asked for."""

    def __init__(
        self, trial: RowsTrial, requests: Samples, original: Original, goal: Goal, int8: bool
    ) -> None:
        self.int8, self._sweep = int8, Sweep(trial, requests, original, goal)
        self._places = {requests.number(at): at for at in range(len(requests))}
        self._tried: dict[int, Tried] = {}

    def at(self, bound: float, samples: Samples) -> Tried:
        """What came of some of the requests at the nearest bound of the grid."""
        nearest = int(np.abs(np.log(GRID / bound)).argmin())
        if nearest not in self._tried:
            self._tried[nearest] = self._sweep.at(float(GRID[nearest] / GRID[0]), lambda: None)
        came = self._tried[nearest]
        which = [self._places[samples.number(at)] for at in range(len(samples))]
        seen = Seen(came.seen.errors[which], came.seen.numbers[which])
        decided = Seen(came.decided.errors[which], came.decided.numbers[which])
        return Tried(came.hits[which], came.rows[which], seen, decided, came.token_errors[which])

    def ratio(self, tried: Tried) -> float:
        """About the time of requests, relative to the original's."""
        fixed, by_rows = INT8 if self.int8 else FLOAT
        return float(np.where(tried.hits, fixed + by_rows * tried.rows, MISS).mean())


class Remembered(RowsTrial):
    """In place of a trial: what a pool remembers, with `loosest` as the bound at a strictness of 1."""

    def __init__(self, pool: Pool, loosest: float) -> None:
        self.pool, self.loosest = pool, loosest

    def run(
        self,
        samples: Samples,
        original: Original,
        strictness: float,
        goal: Goal,
        advance: Callable[[], None],
        looser: Tried | None = None,
    ) -> Tried:
        """As `RowsTrial` has it."""
        del original, goal, advance, looser
        return self.pool.at(strictness * self.loosest, samples)

    def race(self, samples: Samples, original: Original, strictness: float) -> Raced:
        """As `RowsTrial` has it, by the model of time."""
        tried = self.pool.at(strictness * self.loosest, samples)
        return Raced(np.asarray([[[1.0, self.pool.ratio(tried)]]]))


@dataclass(frozen=True)
class Result:
    """Of one split and promise.

    Attributes:
        reuses: whether a bound was proven; else the original is left as it is.
        kept: the share of decisions that stay on the rest, the least of what is promised.
        ratio: about the time on the rest.
        hit_rate: of the rest.
    """

    keep: float
    reuses: bool
    kept: float
    ratio: float
    hit_rate: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Study some workloads and write the page's section of all that were studied; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.study_splits", description=__doc__)
    parser.add_argument("--only", default=",".join(WORKLOADS), help="workloads, by comma")
    parser.add_argument("--splits", type=int, default=40)
    chosen = parser.parse_args(arguments)
    for name in chosen.only.split(","):
        known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
        start = time.monotonic()
        known[name] = [asdict(result) for result in study(WORKLOADS[name], chosen.splits)]
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(known), encoding="utf-8")
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
        write_section(PAGE, "splits", _table(known))
    return 0


@one_thread()
def study(workload: Workload, splits: int) -> list[Result]:
    """What became of each promise in each split."""
    model = RECIPES[workload.model](CACHE)
    with TemporaryDirectory() as folder:
        inputs = INPUTS[workload.data]
        data = Path(folder) / f"data{inputs.suffix}"
        tokenizer = model / "tokenizer.json"
        write(inputs.draw(workload.inputs, 0), data, tokenizer)
        opened = OpenedModel(model / "model.onnx", None)
        samples = read_samples(data, model_inputs(opened), tokenizer)
        goal = goal_of(Asked(keep=KEEPS[0], decision=workload.decision))
        job = Job(opened, samples, Path(folder), goal)
        order = np.random.default_rng(0).permutation(len(samples))
        size = int(STORE * workload.sample)
        goal, requests, pools = _pools(job, np.sort(order[:size]), order[size:])
        found = []
        for seed in range(splits):
            mixed = np.random.default_rng(seed).permutation(len(requests))
            held = int(HELD_OUT * workload.sample)
            parts = np.split(mixed, [FIT_LIMIT, FIT_LIMIT + held])
            found += [_result(goal, keep, requests, parts, pools) for keep in KEEPS]
        return found


def _pools(job: Job, stored: Numbers, others: Numbers) -> tuple[Goal, Samples, list[Pool]]:
    """The settled goal, the requests, and a pool for each precision, with `stored` as the store."""
    entries = job.samples.take(sorted(stored.tolist(), key=job.samples.extent))
    requests = job.samples.take(others.tolist())
    everything = np.ones(len(entries), np.bool_)
    split = Split(stored, others[:0], others)
    parts = Parts(split, entries, everything, np.ones((2, len(entries)), np.int64), requests, requests)
    some = entries.take(np.random.default_rng(0).permutation(len(entries))[:ANSWERS].tolist())
    assert job.goal is not None, "decisions are promised"
    goal = job.goal.settled(run_original(job, some, lambda: None).answers, [])
    original = run_original(job, requests, lambda: None)
    learned = learn_rows(job, parts)
    pools = []
    brief = Brief(job, parts, 0.0, Rounding(job.opened, entries, silent))
    for precision, way in precisions(brief, entries):
        settings = way(replace(learned.settings, bound=float(GRID[0])), None)  # misses run the original
        trial = RowsTrial(
            job.opened, RowsBlueprint(job.opened.encoder, learned.captured, settings, everything)
        )
        pools.append(Pool(trial, requests, original, goal, precision != "float"))
    return goal, requests, pools


def _result(
    goal: Goal, keep: float, requests: Samples, mixed: Sequence[Numbers], pools: Sequence[Pool]
) -> Result:
    """Of one promise on a split into fit part, held-out part and the rest."""
    goal = replace(goal, promise=Promise(goal.promise.tolerance, keep))
    fit, held_out, rest = (requests.take(which.tolist()) for which in mixed)
    nothing = np.zeros(0, np.bool_)
    parts = Parts(Split(*mixed), fit.take([]), nothing, np.zeros((2, 0), np.int64), fit, held_out)
    chosen = _searched(goal, parts, pools)
    if chosen is not None:
        pool, bound = chosen
        trial = Remembered(pool, bound * max(TESTED))
        settings = [Tested(trial, scale) for scale in TESTED]
        calibration, _ = prove(goal, held_out, Original(None, []), settings, silent)
        if calibration.setting is not None and calibration.hit_rate:
            tried = pool.at(bound * calibration.setting, rest)
            kept = _kept(goal, tried)
            return Result(keep, True, kept, pool.ratio(tried), tried.hit_rate)
    return Result(keep, False, 1.0, 1.0, 0.0)


def _searched(goal: Goal, parts: Parts, pools: Sequence[Pool]) -> tuple[Pool, float] | None:
    """The fastest precision and its bound, as `optimize` seeks them on the fit part."""
    found: list[tuple[float, Pool, float]] = []
    for pool in pools:
        trial = Remembered(pool, BOUNDS[-1])
        search = Search(goal, parts, Original(None, []), trial, "", silent)
        beyond = max((bound for _, _, bound in found), default=None)
        bound = search.loosest(beyond, min((ratio for ratio, _, _ in found), default=PAYS))
        if bound is not None:
            found.append((search.ratios[bound], pool, bound))
    if not found:
        return None
    _, pool, bound = min(found, key=lambda one: one[0])
    return pool, bound


def _kept(goal: Goal, tried: Tried) -> float:
    """The share of decisions that stay; of a ranking, of the pairs or of the top tenth, whichever is less."""
    if goal.judge.about_many:
        return min(kept.share for kept in goal.judge.kept(tried.seen))
    return 1 - float(outside(tried.errors, goal.promise.tolerance).mean())


def _table(known: dict[str, list[dict[str, Any]]]) -> str:
    columns = [
        ("inputs, and the decision", "title", ""),
        ("promised", "keep", "g"),
        ("splits in which something is reused", "reuses", "d"),
        ("kept on unseen requests: least", "least", ".1%"),
        ("median", "median", ".1%"),
        ("splits in which the promise held", "held", ""),
        ("time, about", "ratio", ".2f"),
    ]
    return table(columns, [*_rows(known)])


def _rows(known: dict[str, list[dict[str, Any]]]) -> Iterator[dict[str, object]]:
    for name, results in known.items():
        workload = WORKLOADS[name]
        for keep in KEEPS:
            own = [Result(**result) for result in results if result["keep"] == keep]
            kept = np.asarray([one.kept for one in own])
            held = int((kept >= keep).sum())
            yield {
                "title": f"{workload.title}: {workload.decision}",
                "keep": keep,
                "reuses": sum(one.reuses for one in own),
                "least": float(kept.min()),
                "median": float(np.median(kept)),
                "held": f"{held} of {len(own)}",
                "ratio": float(np.median([one.ratio for one in own])),
            }


if __name__ == "__main__":
    sys.exit(main())
