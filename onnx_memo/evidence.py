"""What a decision rests on, as plain data: for the manifest, the report and machines."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from onnx_memo import __version__
from onnx_memo.decide import Decision
from onnx_memo.goal import Goal
from onnx_memo.promise import curve
from onnx_memo.runtime import library_path

STRICTNESS = np.linspace(0, 1, 21)

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
    decision: Decision, goal: Goal, times: Floats, names: dict[str, str], size: int, notes: list[str]
) -> dict[str, Any]:
    """The figures of a decision, as `onnx_memo.report` describes them.

    Args:
        decision: what was decided.
        goal: what was promised.
        times: seconds of each held-out request, original and bundle: [n, 2].
        names: of `title`, `model` and `data`.
        size: of the memo data, in bytes.
        notes: for people.
    """
    outcome, promise = decision.outcome, goal.promise
    hits = outcome.distances <= decision.threshold
    errors = np.where(hits, outcome.errors, 0.0)
    scaled = [float(s) * decision.threshold if s > 0 else -1.0 for s in STRICTNESS]
    points = curve(outcome.distances, outcome.errors, scaled, promise.tolerance)
    worst = int(errors.argmax())
    return names | {
        "version": __version__,
        "machine": machine(),
        "threshold": decision.threshold,
        "promise": {
            "metric": goal.metric,
            "tolerance": promise.tolerance,
            "within": promise.within,
            "confidence": promise.confidence,
            "held_out": decision.calibration.requests,
            "outside": decision.calibration.failures,
            "p_value": decision.calibration.p_value,
        },
        "split": {
            "store": len(decision.split.store),
            "fit": len(decision.split.fit),
            "held_out": len(decision.split.held_out),
            "repeats": decision.repeats,
            "how": "At random, request by request. Store and fit part together are the bundle's store.",
        },
        "requests": [
            {
                "length": decision.held_out.size(at),
                "original_ms": times[at, 0] * 1e3,
                "bundle_ms": times[at, 1] * 1e3,
                "hit": bool(hits[at]),
                "distance": _finite(outcome.distances[at]),
                "error": _finite(errors[at]),
                "token_error": _finite(outcome.token_errors[at]) if hits[at] else 0.0,
                "text": decision.held_out.text(at),
            }
            for at in range(len(times))
        ],
        "sites": _sites(decision, float(hits.mean())),
        "strictness": [
            {"strictness": float(s), **{k: _finite(v) for k, v in point.items() if k != "threshold"}}
            for s, point in zip(STRICTNESS, points, strict=True)
        ],
        "predicted": {
            "ratio": float(times[:, 1].sum() / times[:, 0].sum()),
            "hit_rate": float(hits.mean()),
            "hit_ratio": _ratio(times[hits]),
            "miss_ratio": _ratio(times[~hits]),
        },
        "alternatives": [
            {
                "name": str(candidate.plan),
                "ratio": candidate.ratio,
                "hit_rate": candidate.hit_rate,
                "chosen": candidate is decision.chosen,
                "reason": f"{candidate.hit_rate:.0%} of the fit part within the tolerance",
            }
            for candidate in decision.candidates
        ],
        "worst": {"error": _finite(errors[worst]), "text": decision.held_out.text(worst)},
        "bytes": size,
        "entries": len(decision.stored),
        "notes": notes,
    }


def _sites(decision: Decision, hit_rate: float) -> list[dict[str, Any]]:
    """Each site of the costs that were measured: microseconds saved and spent by a mean request."""
    rows = []
    plan = decision.chosen.plan
    for name in dict.fromkeys(name for _, name in decision.costs):
        level = plan.levels.get(name)
        measured = level or next(level for level, site in decision.costs if site == name)
        compute, reuse = decision.costs[measured, name]
        guarded = level is not None
        reason = f"a hit takes {reuse:.0f} us in place of {compute:.0f} us at '{measured}'"
        if not guarded:
            reason = f"not guarded: {reason}, which is not worth its error"
        rows.append(
            {
                "name": name,
                "level": level,
                "hit_rate": hit_rate if guarded else 0.0,
                "saving_us": hit_rate * compute if guarded else 0.0,
                "overhead_us": hit_rate * reuse if guarded else 0.0,
                "reason": reason,
            }
        )
    return rows


def _finite(value: float) -> float:
    """JSON has no infinity."""
    return float(value) if math.isfinite(value) else 1e30


def _ratio(times: Floats) -> float:
    return float(times[:, 1].sum() / times[:, 0].sum()) if len(times) else 1.0
