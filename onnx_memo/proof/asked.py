"""What the user asks for, as options say it: a goal, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx_memo.errors import MemoError
from onnx_memo.proof.choice import DECISIONS, Wish
from onnx_memo.proof.decisions import SLACK
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Distance
from onnx_memo.proof.metrics import DEFAULT_METRIC, METRICS
from onnx_memo.proof.promise import Promise
from onnx_memo.proof.scores import SCORE_METRICS
from onnx_memo.proof.values import Decide


@dataclass(frozen=True)
class Asked:
    """What the user says of a goal; None: nothing.

    Attributes:
        tolerance: the largest distance from the original's answer, or the `reference`'s, by `metric`.
        keep: instead of that, the share of requests that must lead to the same `decision`.
        slack: of the decision `neighbours`, as a factor.
        decide: a decision of the user's own (`onnx_memo.proof.choice.Wish`).
        outputs: that count; none: all.
        labels: the column of the data that holds true labels, by which the accuracy is told. They go with
            the decision `label`, which is then the one that is meant.
        reference: the file of a model whose answers count in place of the original's.
    """

    tolerance: float | None = None
    metric: str | None = None
    within: float | None = None
    confidence: float | None = None
    keep: float | None = None
    decision: str | None = None
    slack: float | None = None
    decide: Decide | None = None
    outputs: tuple[str, ...] = ()
    labels: str | None = None
    reference: Path | str | None = None


def goal_of(asked: Asked) -> Goal | None:
    """The goal; None: nothing is asked for, and nothing else counts then.

    Raises:
        MemoError: for what does not go together, or has no sense.
    """
    if asked.tolerance is not None and asked.keep is not None:
        raise MemoError("give --tolerance, a distance, or --keep, a share of decisions, but not both")
    if asked.keep is not None:
        return _of_decisions(asked, asked.keep)
    if asked.tolerance is None:
        what = "says what --keep keeps: give --keep too, or leave it out"
        _refuse(asked, ("decision", "slack", "decide"), what)
        what = "says what a tolerance means: give --tolerance too, or leave it out"
        _refuse(asked, ("metric", "within"), what)
        what = "says what --tolerance or --keep means: give one of these, or leave it out"
        _refuse(asked, ("confidence", "outputs", "reference"), what)
        what = "tells the accuracy on the held-out part: give --tolerance or --keep too, or ask bench for it"
        _refuse(asked, ("labels",), what)
        return None
    known = [*METRICS, *SCORE_METRICS]
    if asked.metric is not None and asked.metric not in known:
        raise MemoError(f"there is no metric '{asked.metric}': choose {', '.join(known)}")
    promise = Promise(
        asked.tolerance,
        Promise.within if asked.within is None else asked.within,
        Promise.confidence if asked.confidence is None else asked.confidence,
    )
    return Goal(promise, Distance(asked.metric or DEFAULT_METRIC, asked.outputs), _wish(asked))


def _of_decisions(asked: Asked, keep: float) -> Goal:
    what = "goes with --tolerance; with --keep the share is --keep's, and --decision says what is kept"
    _refuse(asked, ("metric", "within"), what)
    if not 0 < keep < 1:
        raise MemoError(f"--keep takes a share above 0 and below 1, such as 0.95, not {keep}")
    if len(asked.outputs) > 1:
        raise MemoError("a decision is about one output: give --output once")
    promise = Promise(0.0, keep, Promise.confidence if asked.confidence is None else asked.confidence)
    return Goal(promise, None, _wish(asked))


def _wish(asked: Asked) -> Wish:
    if asked.decision is not None and asked.decide is not None:
        raise MemoError("give a decision by its name, or decide, a function, but not both")
    if asked.decision is not None and asked.decision not in DECISIONS:
        raise MemoError(f"there is no decision '{asked.decision}': choose {', '.join(DECISIONS)}")
    decision = asked.decision
    if asked.labels is not None:
        if decision not in (None, "label") or asked.decide is not None:
            named = "decide, a function" if decision is None else f"--decision {decision}"
            raise MemoError(
                f"--labels tells how often the best class is right (--decision label): leave out {named}, or "
                "--labels"
            )
        decision = "label"
    slack = SLACK if asked.slack is None else asked.slack
    if not 1 <= slack < float("inf"):
        raise MemoError(f"--slack takes a factor of at least 1, such as {SLACK}, not {slack}")
    return Wish(decision, slack, asked.decide, asked.outputs)


def _refuse(asked: Asked, names: Sequence[str], what: str) -> None:
    for name in names:
        if getattr(asked, name) not in (None, ()):
            raise MemoError(f"--{'output' if name == 'outputs' else name} {what}")
