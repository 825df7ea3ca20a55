"""Collects the evidence: from a verdict, and the times that its bundle was measured to take."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from onnx_memo import __version__
from onnx_memo.data.labels import accuracy_by
from onnx_memo.data.parts import Parts
from onnx_memo.levels.base import SiteFigures, Verdict
from onnx_memo.report.evidence import (
    Evidence,
    Group,
    Machine,
    Names,
    Predicted,
    Proof,
    Request,
    Signal,
    SplitSizes,
    Worst,
)
from onnx_memo.runtime import operators_used
from onnx_memo.sessions import Raced
from onnx_memo.timing import ratio_of, times_of

Floats = npt.NDArray[np.float64]


def evidence_of(
    verdict: Verdict, raced: Raced, names: Names, size: int, notes: Sequence[str], show_inputs: bool
) -> Evidence:
    """The figures of a decision.

    Args:
        verdict: what was decided.
        raced: the held-out requests, original against bundle.
        names: of the bundle, its model and its data.
        size: of the memo data, in bytes.
        notes: for people.
        show_inputs: keep the texts of requests; without, a request is told by where it stands in the data.
    """
    parts, goal, calibration, times = verdict.parts, verdict.goal, verdict.calibration, raced.medians
    requests = [_request(verdict, times, at, show_inputs) for at in range(len(times))]
    worst = requests[int(verdict.errors.argmax())]
    return Evidence(
        title=names.title,
        model=names.model,
        data=names.data,
        version=__version__,
        machine=_machine(),
        promise=Proof(
            metric=goal.metric,
            tolerance=goal.promise.tolerance,
            within=goal.promise.within,
            confidence=goal.promise.confidence,
            held_out=calibration.requests,
            outside=calibration.failures,
            p_value=calibration.p_value,
            reference=names.reference,
        ),
        split=_split(parts),
        requests=requests,
        groups=_groups(raced, verdict.hits),
        decisions=verdict.goal.kept(verdict.decided),
        accuracy=accuracy_by(parts.held_out.labels, verdict.decided),
        signal=_signal(verdict),
        sites=_sites(verdict, times),
        strictness=verdict.strictness,
        predicted=_predicted(raced, verdict.hits, parts.weights),
        alternatives=verdict.alternatives,
        chosen=verdict.chosen,
        worst=Worst(worst.error, worst.place, worst.length, worst.text),
        bytes=size,
        entries=len(verdict.blueprint.lengths),
        notes=notes,
        threshold=verdict.threshold,
        proven_share=calibration.setting if verdict.rows is not None else None,
    )


def _machine() -> Machine:
    return Machine(_processor(), os.cpu_count() or 1, ort.__version__, operators_used())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _split(parts: Parts) -> SplitSizes:
    store, fit = len(parts.split.store), len(parts.split.fit)
    covered = int(parts.counts.sum())
    stored = "Store and fit part together are the bundle's store."
    if covered < store + fit:
        stored = (
            f"{len(parts.stored):,} inputs of store and fit part are stored, chosen for their coverage "
            f"within --max-bytes; they make up {covered:,} of the {store + fit:,} requests of these parts."
        )
    how = f"At random, request by request. {stored}"
    return SplitSizes(store, fit, len(parts.split.held_out), parts.repeats, how)


def _request(verdict: Verdict, times: Floats, at: int, show_inputs: bool) -> Request:
    held_out = verdict.parts.held_out
    return Request(
        place=held_out.place(at),
        length=held_out.extent(at),
        original_ms=float(times[at, 0]) * 1e3,
        bundle_ms=float(times[at, 1]) * 1e3,
        hit=bool(verdict.hits[at]),
        stored=bool(verdict.parts.known[at]),
        distance=float(verdict.distances[at]),
        error=float(verdict.errors[at]),
        token_error=float(verdict.token_errors[at]),
        rows=None if verdict.rows is None else float(verdict.rows[at]),
        text=held_out.text(at) if show_inputs else None,
    )


def _groups(raced: Raced, hits: npt.NDArray[np.bool_]) -> Sequence[Group]:
    chosen = {"hits": hits, "misses": ~hits, "all": np.ones_like(hits)}
    return [
        Group(name, int(which.sum()), times_of(some, 0), times_of(some, 1), ratio_of(some, 1))
        for name, which in chosen.items()
        if which.any()
        for some in (raced.among(which),)
    ]


def _signal(verdict: Verdict) -> Signal | None:
    neighbours = verdict.goal.neighbours
    if neighbours is None or verdict.goal.metric != "cosine":
        return None
    nearest = neighbours.nearest()
    return Signal(float(np.median(nearest)), float(np.quantile(nearest, 0.05)), len(nearest))


def _sites(verdict: Verdict, times: Floats) -> Sequence[SiteFigures]:
    """The sites; where single rows run, what their only one saves and costs as the bundle was measured."""
    if verdict.rows is None:
        return verdict.sites
    (encoder,) = verdict.sites
    saving = float((times[:, 0] * verdict.hits).mean())
    overhead = saving - float((times[:, 0] - times[:, 1]).mean())
    return [replace(encoder, saving_us=saving * 1e6, overhead_us=max(overhead, 0.0) * 1e6)]


def _predicted(raced: Raced, hits: npt.NDArray[np.bool_], weights: Floats) -> Predicted:
    times = raced.medians
    return Predicted(
        ratio=_ratio(times * weights[:, None]),
        hit_rate=float((hits * weights).sum() / weights.sum()),
        hit_ratio=_ratio(times[hits]),
        miss_ratio=_ratio(times[~hits]),
        noise=raced.noise,
    )


def _ratio(times: Floats) -> float:
    return float(times[:, 1].sum() / times[:, 0].sum()) if len(times) else 1.0
