"""The report's page: first lines, hits and misses, errors, what was reused, what was tried, how."""

from __future__ import annotations

from onnx_memo.report import details, errors, latency, rows, sections, sites
from onnx_memo.report.accuracy import accuracy
from onnx_memo.report.evidence import Evidence
from onnx_memo.report.figures import pictures, section
from onnx_memo.report.numbers import escaped
from onnx_memo.report.style import STYLE
from onnx_memo.report.top import top
from onnx_memo.report.ways import ways
from onnx_memo.report.work import work


def page(evidence: Evidence) -> str:
    """The whole page as HTML."""
    title = escaped(f"{evidence.title}: onnx-memo report", 200)
    parts = (_work, _times, _errors, _tried, details.split, details.setting)
    body = "\n".join(part(evidence) for part in parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{top(evidence)}\n"
        f"<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _work(evidence: Evidence) -> str:
    drawn = [work(evidence)]
    drawn.append(rows.rows_run(evidence) if rows.by_rows(evidence) else sites.by_site(evidence))
    parts = sections.reused(evidence), pictures(drawn), sections.by_site(evidence)
    return section("work", "What did the work", *parts)


def _times(evidence: Evidence) -> str:
    drawn = [latency.latency(evidence), latency.latency_by_length(evidence)]
    return section("times", "Time: hits and misses", sections.groups(evidence), pictures(drawn))


def _errors(evidence: Evidence) -> str:
    drawn = [errors.errors(evidence), errors.strictness(evidence)]
    parts = (
        accuracy(evidence.accuracy, "original" if evidence.promise.reference is None else "reference"),
        sections.errors(evidence),
        pictures(drawn),
    )
    return section("errors", "Errors", *parts, sections.outside(evidence), sections.strictness(evidence))


def _tried(evidence: Evidence) -> str:
    return section(
        "tried",
        "What was tried",
        sections.tried(evidence),
        pictures([ways(evidence)]),
        sections.alternatives(evidence),
        sections.prediction(evidence),
    )
