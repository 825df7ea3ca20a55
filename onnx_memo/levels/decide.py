"""Decide how to guard a model, so that the promise is kept and time is saved.

The level `rows` comes first: where it pays it saves most. The levels `output` and `probs` are tried where
`rows` is not to be had, or saves little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import onnxruntime as ort

from onnx_memo.data.parts import Parts, make_parts
from onnx_memo.data.samples import Samples
from onnx_memo.graph.sites import Site
from onnx_memo.levels.base import Alternative, NothingPays, Proposal, Verdict
from onnx_memo.levels.rows.propose import propose_rows
from onnx_memo.levels.sites.propose import propose_sites
from onnx_memo.progress import Progress
from onnx_memo.proof.goal import Goal
from onnx_memo.sessions import race, run_model

ENOUGH = 0.5  # a ratio that the levels `output` and `probs` hardly reach


@dataclass(frozen=True)
class Choice:
    """What may be guarded.

    Attributes:
        sites: at `output` and `probs`; may be empty.
        rows: whether the level `rows` may be used.
        level: `auto`, or the only level to use.
    """

    sites: Sequence[Site]
    rows: bool
    level: str


def decide(
    path: Path,
    choice: Choice,
    samples: Samples,
    goal: Goal,
    scratch: Path,
    progress: Progress,
    *,
    max_bytes: int | None,
    notes: list[str],
) -> Verdict:
    """Find what saves most time and keeps the promise.

    Args:
        path: the original model.
        choice: what may be guarded in it.
        samples: the user's sample, repeats included.
        goal: the promise.
        scratch: an empty folder for captured tensors.
        progress: told of the steps.
        max_bytes: the most that the memo data may take; None: no bound.
        notes: what people should know is added to them.

    Raises:
        MemoError: the sample is too small for the promise, or `max_bytes` for a single input.
        NothingPays: with the reason.
    """
    parts = make_parts(samples, goal.promise)
    original_us = _original_time(path, parts)
    found: list[tuple[Proposal, list[str]]] = []
    reasons: list[str] = []
    tried: list[Alternative] = []
    if choice.rows:
        own: list[str] = []
        rows = (parts, goal, original_us, scratch, progress)
        try:
            found.append((propose_rows(path, *rows, max_bytes=max_bytes, notes=own), own))
        except NothingPays as nothing:
            reasons.append(f"rows: {nothing}")
            tried += _tried(nothing)
    if choice.sites and min((proposal.ratio for proposal, _ in found), default=1.0) > ENOUGH:
        own, sites = [], (choice.sites, parts, goal, choice.level, original_us, scratch, progress)
        try:
            found.append((propose_sites(path, *sites, max_bytes=max_bytes, notes=own), own))
        except NothingPays as nothing:
            reasons.append(f"output and probs: {nothing}")
            tried += _tried(nothing)
    tried += [way for proposal, _ in found for way in proposal.alternatives]
    evidence = {"alternatives": [asdict(way) for way in tried]}
    if not found:
        raise NothingPays("; ".join(reasons), evidence)
    # The held-out part proves one proposal: a second test of another would halve the confidence.
    proposal, own = min(found, key=lambda pair: pair[0].ratio)
    try:
        verdict = proposal.prove()
    except NothingPays as nothing:
        raise NothingPays("; ".join([*reasons, f"{proposal.name}: {nothing}"]), evidence) from nothing
    notes.extend(own)
    return replace(verdict, alternatives=tried)


def _tried(nothing: NothingPays) -> list[Alternative]:
    """The ways that did not pay."""
    return [Alternative(**way) for way in nothing.evidence.get("alternatives", [])]


def _original_time(path: Path, parts: Parts, rounds: int = 3) -> float:
    """Microseconds that the original takes for a request, the mean over some of the fit part."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    some = parts.fit.arrays[:: max(1, len(parts.fit) // 16)]
    for number, feeds in enumerate(some):  # the first run of a session allocates; and a misfit is named
        run_model(session, feeds, number)
    return 1e6 * float(race([session], some, rounds).mean())
