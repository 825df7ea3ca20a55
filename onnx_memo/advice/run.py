"""Advice on a model and a sample: one run tries the ladder of promises, and recommends a command."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from onnx_memo.advice.ladder import Rung, ladder
from onnx_memo.data.export import as_onnx
from onnx_memo.data.given import Data, data_of
from onnx_memo.data.parts import FIT_LIMIT, make_parts
from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import model_inputs
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.job import Job
from onnx_memo.levels.base import PAYS, Brief, Level, Use, Wanted
from onnx_memo.levels.decide import ask_the_original
from onnx_memo.levels.explored import Explored
from onnx_memo.levels.inserter import check_original
from onnx_memo.levels.registry import allowed
from onnx_memo.levels.ways import NothingPays
from onnx_memo.notebook import Part, Table, as_html, notebook_bar
from onnx_memo.precision.whole import Rounding
from onnx_memo.progress import Progress
from onnx_memo.proof.asked import Asked, goal_of
from onnx_memo.reference import Reference
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_file, runner
from onnx_memo.store.room import check_room
from onnx_memo.threads import one_thread
from onnx_memo.timing import PLUS_MINUS, Measured, Times
from onnx_memo.words import counted

PREFERRED = (("--keep", "0.95"), ("--keep", "0.9"))
WITHOUT_DECISION = ("--tolerance", "0.01")


@dataclass(frozen=True)
class Advice:
    """What each promise would cost, and which one to take.

    Attributes:
        requests: of the fit part, which all was tried on; the held-out part was not looked at.
        metric: what errors are.
        original: milliseconds that requests take.
        rungs: the promises that something keeps, strict to loose.
        command: what to run next; None: nothing pays.
        why: in a sentence.
        notes: for people.
    """

    model: str
    data: str
    requests: int
    metric: str
    original: Times
    rungs: list[Rung]
    command: str | None
    why: str
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """As one JSON object."""
        return asdict(self)

    def parts(self) -> list[Part]:
        """The ladder as a table, what it says, and what to do."""
        headings = ["promise", "time", "p50 ms", "p95", "p99", "reused", "error", "kept, %"]
        rows = [["original", "1", *_times(self.original), "", "", ""], *map(_cells, self.rungs)]
        title = f"{counted(self.requests, 'request')} of {self.data}, one thread; time: the original's is 1"
        command = [f"run: {self.command}"] if self.command else []
        return [Table(title, headings, rows), *self.legend(), self.why, *command]

    def legend(self) -> list[str]:
        """What the columns of the ladder hold, and what the memo data takes."""
        said = [f"error: what 95 % of the answers stay within ({self.metric})"]
        if self.rungs:
            kept = " / ".join(one.what for one in self.rungs[0].kept)
            said += [f"kept: {kept}"] if kept else []
            said.append(f"memo data: about {max(rung.bytes for rung in self.rungs) / 2**20:,.0f} MiB")
        return said

    def _repr_html_(self) -> str:
        return as_html([*self.parts(), *(f"note: {note}" for note in self.notes)])


def _times(times: Times) -> list[str]:
    return [f"{time.value:.3g}" for time in (times.p50, times.p95, times.p99)]


def _short(ratio: Measured) -> str:
    """With three decimals; the spread is rounded up."""
    return f"{ratio.value:.3f} {PLUS_MINUS}{math.ceil(1e3 * ratio.spread) / 1e3:.3f}"


def _cells(rung: Rung) -> list[str]:
    kept = " / ".join(f"{100 * one.share:.3g}" for one in rung.kept)
    ratio = "equal" if rung.ratio.equals(1) else _short(rung.ratio)
    name = rung.name.removeprefix("--")
    return [name, ratio, *_times(rung.times), f"{rung.hit_rate:.0%}", f"{rung.error:.0e}", kept]


@one_thread()
def advise(
    model: Path | str,
    data: Data | Path | str,
    *,
    file: str | None = None,
    task: str | None = None,
    tokenizer: Path | str | None = None,
    decision: str | None = None,
    slack: float | None = None,
    outputs: Sequence[str] = (),
    reference: Path | str | None = None,
    exact_misses: bool = False,
    mask: str | None = None,
    allow_unknown: bool = False,
    progress: Progress = notebook_bar,
) -> Advice:
    """Try the ladder of promises on a sample, and recommend one.

    What is reused is tried on a fifth of the sample, with half of it as the store. The rest is not looked at,
    so `optimize` can prove on it what is chosen here.

    Args:
        model: an ONNX file, or a Hugging Face model directory (`onnx_memo.optimize`).
        data: representative inputs, 197 or more, as for `optimize`.
        file: of a directory, the ONNX file to take.
        task: of a directory, what optimum shall export it for.
        tokenizer: a `tokenizer.json`, for text; None: the one beside the model.
        decision: that people make with answers (`onnx_memo.proof.choice`); None: what the outputs suggest.
        slack: of neighbours.
        outputs: names of the outputs that count; none: all.
        reference: the ONNX file of a model whose answers count in place of `model`'s own.
        exact_misses: what reuses nothing runs the original, bit for bit.
        mask: the input that says which tokens are real, where that is not seen in the graph.
        allow_unknown: take text of which more than a tenth of the tokens is unknown to the tokenizer.
        progress: is called for each step and its parts.

    Raises:
        MemoError: the input is unfit, or nothing can be guarded.
    """
    model, data = Path(model), data_of(data)
    goal = goal_of(Asked(tolerance=0.0, decision=decision, slack=slack, outputs=tuple(outputs)))
    with as_onnx(model, file, task, progress) as source, TemporaryDirectory(prefix="onnx-memo-") as scratch:
        vocabulary = Path(tokenizer) if tokenizer is not None else source.tokenizer
        opened = OpenedModel(source.onnx, mask, in_floats=reference is not None)
        check_original(opened)
        assert goal is not None, "a tolerance is asked for"
        goal.check_outputs(opened.outputs)
        notes: list[str] = []
        source.note_choice(opened.outputs, notes)
        uses = allowed(opened, Wanted(exact_misses=exact_misses), notes)
        inputs = model_inputs(opened)
        judge = None if reference is None else Reference(Path(reference), inputs, opened.outputs)
        samples = read_samples(
            data,
            inputs,
            vocabulary,
            image_processor=source.image_processor,
            allow_unknown=allow_unknown,
        )
        notes += samples.notes
        if judge is not None:
            notes.append(f"errors and decisions count from the answers of the reference '{judge.name}'")
        source.note_reading(data, tokenizer, samples, notes)
        job = Job(opened, samples, Path(scratch), goal, progress=progress, notes=notes, reference=judge)
        check_room(job.scratch, max(use.bytes_needed(job) for _, use in uses))
        parts = make_parts(samples, goal.promise)
        goal, original_us = ask_the_original(job, parts)
        own = replace(job.on_trial(), goal=goal)
        brief = Brief(own, parts, original_us, Rounding(opened, parts.stored, progress))
        found, reason = _explored(brief, uses)
        original = runner(open_file(opened.path, session_options(native=False, threads=1)))
        times, rungs = ladder(goal, found, original, parts.fit.arrays, len(parts.held_out), notes)
    chosen, why = chosen_of(rungs, reason)
    asked: list[tuple[str, object]] = [("--file", file), ("--task", task), *data.options()]
    asked += [("--tokenizer", tokenizer), ("--mask", mask)]
    if chosen is not None and chosen.options:  # the others say what a promise means
        asked += [("--decision", decision), ("--slack", slack), ("--reference", reference)]
        asked += [("--output", name) for name in outputs]
    options = [str(part) for name, value in asked if value is not None for part in (name, value)]
    flags = {"--exact-misses": exact_misses, "--allow-unknown": allow_unknown}
    options += [name for name, given in flags.items() if given]
    command = None
    if chosen is not None:
        line = ["onnx-memo", "optimize", str(model), "--data", str(data.path), *options, *chosen.options]
        command = shlex.join([*line, "-o", "bundle"])
    requests = min(len(parts.fit), FIT_LIMIT)
    return Advice(str(model), str(data.path), requests, goal.metric, times, rungs, command, why, notes)


def _explored(brief: Brief, uses: Sequence[tuple[Level, Use]]) -> tuple[Sequence[Explored], str]:
    """What the first level tried that can reuse anything; or why none can."""
    reasons = []
    for level, use in uses:
        try:
            return use.explore(brief), ""
        except NothingPays as nothing:
            reasons.append(f"{level.title}: {nothing}")
    return (), "; ".join(reasons)


def _pays(rung: Rung) -> bool:
    return rung.ratio.value <= PAYS and not rung.ratio.equals(1)


def chosen_of(rungs: Sequence[Rung], reason: str) -> tuple[Rung | None, str]:
    """The rung to take, and why; None: none pays.

    Of `PREFERRED` the first that pays is taken, or literal repeats alone where those gain as much.
    """
    by_options = {rung.options: rung for rung in rungs}
    exact = by_options.get(())
    decisions = any(rung.kept for rung in rungs)
    asked = PREFERRED if decisions else (WITHOUT_DECISION,)
    wanted = [by_options[options] for options in asked if options in by_options]
    paying = [rung for rung in wanted if _pays(rung)][:1] + [one for one in [exact] if one and _pays(one)]
    if not paying:
        best = min(wanted or rungs, key=lambda rung: rung.ratio.value, default=None)
        if best is None:
            return None, f"nothing pays: {reason or 'no setting keeps any of the promises'}"
        return None, (
            f"nothing pays: '{best.name}' would take {best.ratio} of the original's time, and "
            f"{best.hit_rate:.0%} of the requests would be reused; inputs that are nearer to each other, or "
            "more of them, would change that"
        )
    chosen = min(paying, key=lambda rung: rung.ratio.value)
    if exact in paying and exact is not None:
        gained = exact.ratio.value - chosen.ratio.value
        if gained <= exact.ratio.spread + chosen.ratio.spread:
            chosen = exact
    if chosen is exact:
        what = "reuses literal repeats, whose answers are the original's,"
        return chosen, f"'{chosen.name}' {what} in {chosen.ratio} of the original's time"
    kept = f", and of the sample {chosen.kept[0]}" if chosen.kept else ""
    stricter = wanted[: wanted.index(chosen)]
    beside = "".join(f"; '{rung.name}' would take {rung.ratio}" for rung in stricter)
    return chosen, f"'{chosen.name}' keeps the promise in {chosen.ratio} of the original's time{kept}{beside}"
