"""What a decision rests on, as plain data: for the manifest, the report and machines."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from onnx_memo import __version__
from onnx_memo.data.parts import Parts
from onnx_memo.levels.base import Verdict
from onnx_memo.proof.goal import Goal
from onnx_memo.runtime import library_path

Floats = npt.NDArray[np.float64]


def machine() -> dict[str, Any]:
    """Where the figures were taken."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "onnxruntime": ort.__version__,
        "library": "native" if library_path() is not None else "stock",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def evidence_of(
    verdict: Verdict, goal: Goal, times: Floats, names: dict[str, str], size: int, notes: list[str]
) -> dict[str, Any]:
    """The figures of a decision, as `onnx_memo.report` describes them.

    Args:
        verdict: what was decided.
        goal: what was promised.
        times: seconds of each held-out request, original and bundle: [n, 2].
        names: of `title`, `model` and `data`.
        size: of the memo data, in bytes.
        notes: for people.
    """
    promise, parts, hits, errors = goal.promise, verdict.parts, verdict.hits, verdict.errors
    held_out = parts.held_out
    worst = int(errors.argmax())
    found = names | {
        "version": __version__,
        "machine": machine(),
        "promise": {
            "metric": goal.metric,
            "tolerance": promise.tolerance,
            "within": promise.within,
            "confidence": promise.confidence,
            "held_out": verdict.calibration.requests,
            "outside": verdict.calibration.failures,
            "p_value": verdict.calibration.p_value,
        },
        "split": {
            "store": len(parts.split.store),
            "fit": len(parts.split.fit),
            "held_out": len(parts.split.held_out),
            "repeats": parts.repeats,
            "how": _how(parts),
        },
        "requests": [
            {
                "length": held_out.extent(at),
                "original_ms": times[at, 0] * 1e3,
                "bundle_ms": times[at, 1] * 1e3,
                "hit": bool(hits[at]),
                "distance": _finite(verdict.distances[at]),
                "error": _finite(errors[at]),
                "token_error": _finite(verdict.token_errors[at]),
                "rows": None if verdict.rows is None else float(verdict.rows[at]),
                "text": held_out.text(at),
            }
            for at in range(len(times))
        ],
        "sites": verdict.sites if verdict.rows is None else [verdict.sites[0] | _of_rows(times, hits)],
        "strictness": [{k: _finite(v) for k, v in point.items()} for point in verdict.strictness],
        "predicted": {
            "ratio": _ratio(times * parts.weights[:, None]),
            "hit_rate": float((hits * parts.weights).sum() / parts.weights.sum()),
            "hit_ratio": _ratio(times[hits]),
            "miss_ratio": _ratio(times[~hits]),
        },
        "alternatives": [
            asdict(alternative)
            | {"error": _finite(alternative.error), "chosen": alternative.name == verdict.chosen}
            for alternative in verdict.alternatives
        ],
        "worst": {"error": _finite(errors[worst]), "text": held_out.text(worst)},
        "bytes": size,
        "entries": len(verdict.blueprint.lengths),
        "notes": notes,
    }
    if verdict.threshold is not None:
        found["threshold"] = verdict.threshold
    if verdict.rows is not None:
        found["proven_share"] = verdict.calibration.setting
    return found


def _of_rows(times: Floats, hits: npt.NDArray[np.bool_]) -> dict[str, float]:
    """What reuse of the encoder saves and costs a mean request, as the bundle was measured."""
    saving = float((times[:, 0] * hits).mean())
    overhead = saving - float((times[:, 0] - times[:, 1]).mean())
    return {"saving_us": saving * 1e6, "overhead_us": max(overhead, 0.0) * 1e6}


def _how(parts: Parts) -> str:
    """How the sample was split, and what of it is stored."""
    of = len(parts.split.store) + len(parts.split.fit)
    covered = int(parts.counts.sum())
    stored = "Store and fit part together are the bundle's store."
    if covered < of:
        stored = (
            f"{len(parts.stored):,} inputs of store and fit part are stored, chosen for their coverage "
            f"within --max-bytes; they make up {covered:,} of the {of:,} requests of these parts."
        )
    return f"At random, request by request. {stored}"


def _finite(value: float) -> float:
    """JSON has no infinity."""
    return float(value) if math.isfinite(value) else 1e30


def _ratio(times: Floats) -> float:
    return float(times[:, 1].sum() / times[:, 0].sum()) if len(times) else 1.0
