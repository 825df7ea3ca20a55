"""The attention of a model, which all levels but the simplest need."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import onnx_ir as ir

from onnx_memo.errors import MemoError
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.site import Findings, Site
from onnx_memo.store.manifest import GuardedSite


def attention_of(opened: OpenedModel) -> list[Site]:
    """The model's attention blocks, at least one.

    Raises:
        MemoError: it has none.
    """
    findings = opened.findings
    if not findings.sites:
        raise MemoError(
            f"'{opened.path}' has no attention that can be memoized. Looked for: a softmax over square "
            f"scores whose result is multiplied with values and projected. Found: {_looked_at(findings)}"
        )
    return findings.sites


def _looked_at(findings: Findings) -> str:
    reasons = "; ".join(not_taken(findings))
    return reasons or "it has no softmax at all"


def note_unguarded(opened: OpenedModel, guards: Sequence[GuardedSite], notes: list[str]) -> None:
    """Say which attention is not looked into, and where it is not known what part of the work is guarded."""
    # What is no site may lie in a span all the same, as cross-attention does in that of a decoder.
    inside = opened.spanned if any(guard.level == "rows" for guard in guards) else set()
    notes += [f"not memoized: {line}" for line in not_taken(opened.findings, inside)]
    if any(guard.share is None for guard in guards):
        first, *others = opened.uncounted
        more = f" and {len(others)} more" if others else ""
        notes.append(
            "what share of the model's work is guarded is not known: it is not known what "
            f"'{first.name}' ({first.op_type}){more} multiply"
        )


def not_taken(findings: Findings, inside: Collection[ir.Node] = ()) -> list[str]:
    """Every softmax or attention operator that is not taken, nor `inside` what is, a line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for refusal in findings.refusals:
        if refusal.node not in inside:
            by_reason.setdefault(refusal.reason, []).append(f"'{refusal.name}'")
    return [f"{', '.join(names)}: {reason}" for reason, names in by_reason.items()]
