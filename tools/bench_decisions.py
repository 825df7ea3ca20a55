"""What promises cost and which decisions they keep: the section of `docs/benchmarks.md`, and README's table.

Run as `python -m tools.bench_decisions [--only logs,questions]`. For each workload one process runs the
original, ONNX Runtime's int8, and the bundles that `optimize --tolerance 0.01`, `--keep 0.95` and, where the
sample can prove it, `--keep 0.99` make, turn by turn, one thread, on requests that nothing saw before. What
is measured is kept in `.cache/`; a run of some workloads replaces theirs only.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.bring import CACHE, RECIPES
from models.heads import Text
from onnx_memo.commands.progress import show_progress
from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import Samples, model_inputs
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.proof.answer import Answer
from onnx_memo.proof.asked import Asked, goal_of
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Seen
from onnx_memo.proof.percentile import percentile
from onnx_memo.sessions import race
from onnx_memo.timing import ratio_of
from tools import int8
from tools.lookalikes.inputs import INPUTS, write
from tools.measure import KEPT, Runner, Workshop, kinds, machine, reused, runner
from tools.pages import table, write_section
from tools.readme import write_decisions
from tools.workloads import WORKLOADS as TEXTS

RESULTS = Path(".cache") / "bench_decisions.json"
PROMISES: dict[str, dict[str, float]] = {
    "--tolerance 0.01": {"tolerance": 0.01},
    "--keep 0.95": {"keep": 0.95},
    "--keep 0.99": {"keep": 0.99},
}
SAMPLE, REQUESTS, ROUNDS = 1000, 200, 3
STORED_IN_INT8 = ("classifier", "reranker")  # made from the demo model: there int8 has nothing to quantize
ANSWERS = 256  # of the original's to the sample, that decisions are judged against


@dataclass(frozen=True)
class Workload:
    """Inputs for `optimize`, unseen requests, and the model that they go through."""

    title: str
    model: str
    draw: Callable[[], tuple[Sequence[Text], Sequence[Text]]]
    suffix: str = ".txt"


def _lookalikes(name: str) -> Callable[[], tuple[Sequence[Text], Sequence[Text]]]:
    def draw() -> tuple[Sequence[Text], Sequence[Text]]:
        lines = INPUTS[name].draw(SAMPLE + REQUESTS, 1)
        order = np.random.default_rng(0).permutation(len(lines)).tolist()
        return [lines[at] for at in sorted(order[:SAMPLE])], [lines[at] for at in order[SAMPLE:]]

    return draw


def _texts(name: str) -> Callable[[], tuple[Sequence[Text], Sequence[Text]]]:
    def draw() -> tuple[Sequence[Text], Sequence[Text]]:
        made = TEXTS[name]()
        return made.sample, made.requests[:REQUESTS]

    return draw


WORKLOADS = {
    "likelihood": Workload(
        "variants of an antibody, ranked by likelihood", "antiberty-mlm", _lookalikes("variants")
    ),
    "logs": Workload("log lines of an SSH server", "minilm", _lookalikes("sshd")),
    "questions": Workload("questions to a bank", "minilm", _lookalikes("questions")),
    "d": Workload("(d) text of which half was seen before", "minilm", _texts("d")),
    "e": Workload("(e) templated log and form lines", "minilm", _texts("e")),
    "reranker": Workload("pairs of texts, reranked", "reranker", _lookalikes("pairs"), ".npz"),
    "classifier": Workload("utterances, classified", "classifier", _lookalikes("utterances")),
    "f": Workload("(f) adversarial near-duplicates", "minilm", _texts("f")),
    "a": Workload("(a) one antibody, single substitutions", "antiberty", _texts("a")),
    "b": Workload("(b) two antibodies, 1 to 4 substitutions", "antiberty", _texts("b")),
    "c": Workload("(c) diverse conversation and news", "minilm", _texts("c")),
}


@dataclass(frozen=True)
class Row:
    """What one model did on a workload.

    Attributes:
        promise: of the bundle, or `int8`.
        ratio: total time over the original's, and its spread.
        error: the distance that 95 % of the answers stay within, by the metric of a tolerance.
        kept: what stays of the decision, and the share of it.
        about_many: whether all of that is promised, rather than the first.
        held: whether the promise was kept on these requests; None: nothing was promised.
        reason: why there is no bundle: then the original runs.
    """

    workload: str
    title: str
    machine: str
    original_ms: float
    promise: str
    ratio: float
    spread: float
    hit_rate: float
    error: float
    kept: dict[str, float]
    about_many: bool
    held: bool | None
    reason: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure some workloads, and write the section and README's table of all; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(WORKLOADS), help="default: %(default)s")
    parser.add_argument("--prepare", action="store_true", help="only make bundles, for a quiet hour")
    chosen = parser.parse_args(arguments)
    for name in chosen.only.split(","):
        start = time.monotonic()
        with show_progress() as progress:
            found = measured(name, Workshop(KEPT / "decisions", progress=progress), chosen.prepare)
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
        if found:
            known[name] = [asdict(row) for row in found]
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(known), encoding="utf-8")
        rows = [Row(**row) for one in WORKLOADS for row in known.get(one, [])]
        if rows:
            write_section(Path("docs") / "benchmarks.md", "decisions", section(rows))
            write_decisions(Path("README.md"), Path("docs"), rows)
    return 0


def measured(name: str, shop: Workshop, prepare: bool) -> list[Row]:
    """One workload: the bundles are made where they are not there, then all models take turns."""
    work = WORKLOADS[name]
    folder = RECIPES[work.model](CACHE)
    model, tokenizer = folder / "model.onnx", folder / "tokenizer.json"
    shop.folder.mkdir(parents=True, exist_ok=True)
    sample, unseen = (shop.folder / f"{name}.{part}{work.suffix}" for part in ("sample", "unseen"))
    for lines, path in zip(work.draw(), (sample, unseen), strict=True):
        write(lines, path, tokenizer)
    made = {
        promise: shop.bundle(f"{name}{promise.replace(' ', '')}", model, sample, tokenizer=tokenizer, **asked)
        for promise, asked in PROMISES.items()
    }
    if prepare:
        return []
    opened = OpenedModel(model)
    inputs = model_inputs(opened)
    requests = read_samples(unseen, inputs, tokenizer)
    original = runner(model)
    rival = () if work.model in STORED_IN_INT8 else ("int8",)
    runners = {name: runner(int8.bring(model)) for name in rival}
    native = kinds()[0] == "native"
    for promise, bundle in made.items():
        if bundle.path is not None:
            runners[promise] = runner(bundle.path / "model.onnx", native=native)
    race([original, *runners.values()], requests.arrays[:20], 1)
    raced = race([original, *runners.values()], requests.arrays, ROUNDS)
    places = dict(zip(runners, range(1, 1 + len(runners)), strict=True))
    goal = _settled(original, opened.outputs, read_samples(sample, inputs, tokenizer), tolerance=0.01)
    about_many = goal.decision is not None and goal.decision.about_many
    wanted = [_answer(original, opened.outputs, requests, at) for at in range(len(requests))]
    rows = []
    for promise in (*rival, *PROMISES):
        of = made.get(promise)
        reason = of.reason if of else ""
        bundle_at = of.path if of else None
        own = runners.get(promise, original)
        errors, decided = _compared(goal, wanted, own)
        kept = {one.what: one.share for one in goal.kept(decided)}
        ratio = ratio_of(raced, places.get(promise, 0))
        rows.append(
            Row(
                workload=name,
                title=work.title,
                machine=machine(),
                original_ms=float(raced.medians[:, 0].mean() * 1e3),
                promise=promise,
                ratio=ratio.value,
                spread=ratio.spread,
                hit_rate=reused(bundle_at, requests.arrays)[0] if bundle_at else 0.0,
                error=percentile(errors.errors.tolist(), 95),
                kept=kept,
                about_many=about_many,
                held=_held(promise, errors, kept, about_many) if bundle_at else None,
                reason=reason,
            )
        )
    return rows


def _settled(original: Runner, names: Sequence[str], sample: Samples, tolerance: float) -> Goal:
    """A goal that judges distances, and the decision that the outputs suggest beside them."""
    goal = goal_of(Asked(tolerance=tolerance))
    assert goal is not None, "a tolerance is asked for"
    some = np.random.default_rng(0).permutation(len(sample))[:ANSWERS].tolist()
    return goal.settled((_answer(original, names, sample, at) for at in some), [])


def _answer(model: Runner, names: Sequence[str], samples: Samples, at: int) -> Answer:
    outputs = dict(zip(names, model(samples.arrays[at]), strict=True))
    return Answer(outputs, samples.real(at), samples.arrays[at])


def _compared(goal: Goal, wanted: Sequence[Answer], model: Runner) -> tuple[Seen, Seen]:
    """Distances of a model's answers from those that are `wanted`, and what is said of the decision."""
    opinions = [
        goal.opinion(want, dict(zip(want.outputs, model(want.inputs), strict=True))) for want in wanted
    ]
    return Seen.of([one.judged for one in opinions]), Seen.of([one.decided for one in opinions])


def _held(promise: str, errors: Seen, kept: dict[str, float], about_many: bool) -> bool:
    """Whether at least the promised share of the requests is within the tolerance, or decided as before."""
    asked = PROMISES[promise]
    if "tolerance" in asked:
        return bool((errors.errors <= asked["tolerance"]).mean() >= 0.95)
    shares = list(kept.values()) if about_many else list(kept.values())[:1]
    return min(shares) >= asked["keep"]


def section(rows: Sequence[Row]) -> str:
    """The section's text: what was run, and the table."""
    told = (
        f"{rows[0].machine}. One thread, batch 1; {REQUESTS} requests that nothing saw before, all counted; "
        "the sample has about 1,000. Times are relative to the fp32 original's, in the same race. *kept* is "
        "what stays of the decision that the outputs suggest; *held*: at least the promised share. Where "
        "nothing pays, or the sample is too small to prove it, `optimize` writes no bundle, and the original "
        "runs. The models of classes and reranking are made from one whose weights are int8 already.\n"
    )
    columns = (
        ("requests", "title", ""),
        ("fp32 ms", "ms", ""),
        ("model", "promise", ""),
        ("time", "time", ""),
        ("reused", "reused", ""),
        ("error, 95th percentile", "error", ".1e"),
        ("kept", "kept", ""),
        ("held", "held", ""),
    )
    listed: list[dict[str, Any]] = []
    for at, row in enumerate(rows):
        first = not at or rows[at - 1].workload != row.workload
        listed.append(
            {
                "title": row.title if first else "",
                "ms": f"{row.original_ms:.2f}" if first else "",
                "promise": row.promise if row.promise == "int8" else f"`{row.promise}`",
                "time": f"{row.ratio:.3f} ± {row.spread:.3f}" if not row.reason else "1, the original",
                "reused": "" if row.promise == "int8" else f"{row.hit_rate:.0%}",
                "error": row.error,
                "kept": "; ".join(f"{what} {share:.1%}" for what, share in row.kept.items()),
                "held": {True: "yes", False: "**no**", None: ""}[row.held],
            }
        )
    return f"{told}\n{table(columns, listed)}"


if __name__ == "__main__":
    sys.exit(main())
