"""The attention of a model, which all levels but the simplest need."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.site import Refusal, Site
from onnx_memo.levels.base import NotAllowed
from onnx_memo.store.manifest import GuardedSite


def attention_of(opened: OpenedModel) -> list[Site]:
    """The model's attention blocks, at least one.

    Raises:
        NotAllowed: it has none.
    """
    if not opened.findings.sites:
        raise NotAllowed(f"it has {no_attention(opened)}")
    return opened.findings.sites


def no_attention(opened: OpenedModel) -> str:
    """What was looked for in a model without attention blocks, and what was found."""
    found = "; ".join(not_taken(opened.findings.refusals)) or "it has no softmax at all"
    repeats = "" if opened.span is None else "; without a tolerance literal repeats can be reused"
    return (
        "no attention that can be memoized. Looked for: a softmax over square scores whose result is "
        f"multiplied with values and projected. Found: {found}{repeats}"
    )


def note_unguarded(opened: OpenedModel, guards: Sequence[GuardedSite], notes: list[str]) -> None:
    """Say which attention is not looked into, and where it is not known what part of the work is guarded."""
    refusals = opened.findings.refusals
    if any(not guard.softmax for guard in guards):  # all layers as a whole, with what is no site in them
        inside = opened.spanned
        refusals = [refusal for refusal in refusals if refusal.node not in inside]
    notes += [f"not memoized: {line}" for line in not_taken(refusals)]
    if any(guard.share is None for guard in guards):
        first, *others = opened.uncounted
        more = f" and {len(others)} more" if others else ""
        notes.append(
            "what share of the model's work is guarded is not known: it is not known what "
            f"'{first.name}' ({first.op_type}){more} multiply"
        )


def not_taken(refusals: Sequence[Refusal]) -> list[str]:
    """Softmax or attention operators that are not taken, a line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for refusal in refusals:
        by_reason.setdefault(refusal.reason, []).append(f"'{refusal.name}'")
    return [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]
