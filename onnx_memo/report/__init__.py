"""A bundle's report: one HTML file that shows what was measured, what was decided, and why.

`write_report` writes it from `evidence`, which `collect` takes from a verdict; the tools draw with `svg` and
`scales`. All other modules are the page's own.
"""

from __future__ import annotations

from pathlib import Path

from onnx_memo.files import write_file
from onnx_memo.report.evidence import Evidence
from onnx_memo.report.page import page

__all__ = ["write_report"]


def write_report(path: Path, evidence: Evidence) -> None:
    """Write the report as one self-contained HTML file that opens without a network."""
    write_file(path, page(evidence).encode(), replace=True)
