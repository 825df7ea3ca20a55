"""What the attention of a model looks like, without running it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onnx_memo.data.export import as_onnx
from onnx_memo.graph.encoder import NoEncoder
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.span import Span
from onnx_memo.levels.inserter import check_original


@dataclass(frozen=True)
class SiteReport:
    """A site; `share` is the part of the model's multiply-adds that its region takes, or None: not known."""

    name: str
    softmax: str
    heads: int
    width: int
    nodes: int
    share: float | None
    mask: str | None
    levels: tuple[str, ...]
    why_no_level: str | None
    why_no_probs: str | None


@dataclass(frozen=True)
class EncoderReport:
    """A span that the level `rows` takes, from one value to another; `share` as for a site."""

    input: str
    output: str
    layers: int
    width: int
    share: float | None


@dataclass(frozen=True)
class Inspection:
    """All sites of a model, and every softmax or attention operator that is none, with the reason.

    Attributes:
        encoder: what the level `rows` takes, or None.
        why_no_rows: the reason, where there is none.
        repeats: whether requests that repeat an input literally can be reused there all the same.
        notes: what was assumed.
        spans: what of them is looked up by itself, as of two towers, or encoder and decoder; none where all
            layers are one span.
    """

    model: str
    sites: list[SiteReport]
    refusals: dict[str, str]
    encoder: EncoderReport | None
    why_no_rows: str | None
    repeats: bool
    notes: list[str]
    spans: list[EncoderReport] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As one object for machines."""
        return asdict(self)


def inspect(
    model: Path | str, *, file: str | None = None, task: str | None = None, mask: str | None = None
) -> Inspection:
    """Find the attention in `model`, an ONNX file or a Hugging Face model directory.

    Args:
        model: the model.
        file: of a directory, the ONNX file to take.
        task: of a directory, what optimum shall export it for.
        mask: the input that is its padding mask, where that is not seen.

    Raises:
        MemoError: it cannot be read as an ONNX model, or has no such mask.
    """
    with as_onnx(Path(model), file, task) as source:
        opened = OpenedModel(source.onnx, mask)
        if source.file is not None:  # the directory may be a bundle without its manifest
            check_original(opened)
        findings = opened.findings
    notes = list[str]()
    source.note_choice(opened.outputs, notes)
    notes += findings.notes
    sites = [
        SiteReport(
            name=site.name,
            softmax=site.softmax.name or "",
            heads=site.heads,
            width=site.width,
            nodes=len(site.region),
            share=site.share,
            mask=site.mask.name if site.mask is not None else None,
            levels=site.levels,
            why_no_level=site.why_no_level,
            why_no_probs=site.why_no_probs,
        )
        for site in findings.sites
    ]
    refusals = {refusal.name: refusal.reason for refusal in findings.refusals}
    try:
        found, why = opened.encoder, opened.encoder.why_no_rows
    except NoEncoder as none:
        why = str(none)
    if why is not None:
        spans = [_span(each, len(each.sites)) for each in opened.linked.spans]
        repeats = opened.span is not None or bool(spans)
        notes += opened.linked.notes()
        return Inspection(str(model), sites, refusals, None, why, repeats, notes, spans)
    encoder = _span(found, len(found.meetings))
    return Inspection(str(model), sites, refusals, encoder, None, True, notes)


def _span(span: Span, layers: int) -> EncoderReport:
    return EncoderReport(span.input.name or "", span.output.name or "", layers, span.width, span.share)
