"""What `optimize` made, and what a bundle holds, in tables and sentences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_memo.levels.registry import level_of
from onnx_memo.notebook import Part, Table, as_html
from onnx_memo.proof.accuracy import Accuracy
from onnx_memo.proof.goal import WARNING
from onnx_memo.report.evidence import Predicted
from onnx_memo.store.bundle import REPORT
from onnx_memo.store.manifest import Manifest
from onnx_memo.words import counted

MOST_LINES = 200  # of a bundle that are shown


@dataclass(frozen=True)
class Result:
    """What `optimize` made.

    Attributes:
        path: of the bundle, a folder.
        manifest: what it holds.
    """

    path: Path
    manifest: Manifest

    @property
    def predicted(self) -> Predicted | None:
        """What to expect of traffic like the sample; None where nothing was measured (no tolerance)."""
        return None if self.manifest.predicted is None else Predicted(**self.manifest.predicted)

    @property
    def accuracy(self) -> Accuracy | None:
        """By true labels, on the held-out part; None where none were given."""
        return self.manifest.accuracy

    @property
    def report(self) -> Path | None:
        """The page that shows how it was decided, to open in a browser; None where nothing was measured."""
        return None if self.manifest.predicted is None else self.path / REPORT

    def to_dict(self) -> dict[str, Any]:
        """As one object of JSON: the manifest (`docs/bundle.md`)."""
        return self.manifest.as_json()

    def _repr_html_(self) -> str:
        """In a notebook: the tables that a terminal shows."""
        return as_html(bundle_parts(self.path, self.manifest))


def bundle_parts(path: Path, manifest: Manifest) -> list[Part]:
    """What the bundle at `path` holds: warnings first, its sites, what a hit reuses, and notes."""
    size = sum(int(file["bytes"]) for file in manifest.files.values())
    level = level_of(manifest.sites)
    table = Table(
        f"{path}: {_what_is_stored(manifest)}, {size / 2**20:,.1f} MiB",
        ["site", "level", level.setting, "heads", "width", "multiply-adds guarded"],
        [
            [
                site.name,
                site.level,
                f"{site.threshold:.3g}",
                str(site.heads),
                str(site.width),
                share(site.share),
            ]
            for site in manifest.sites[:MOST_LINES]
        ],
        words=2,
    )
    notes = manifest.notes[:MOST_LINES]
    warnings = [note for note in notes if note.startswith(WARNING)]
    parts: list[Part] = [*warnings, table, *level.describe(manifest.sites)]
    parts += [] if manifest.promised is None else [str(manifest.promised)]
    parts += [f"note: {note}" for note in notes if note not in warnings]
    for what, count in (("sites", len(manifest.sites)), ("notes", len(manifest.notes))):
        if count > MOST_LINES:
            parts.append(f"and {count - MOST_LINES} more {what}")
    if manifest.entries:
        parts.append("keep it as private as your inputs: they can be recovered from it (SECURITY.md)")
    if manifest.checked is not None:
        parts.append(_checked(manifest.checked, manifest.compact))
    if manifest.accuracy is not None:
        parts.append(f"held out, {manifest.accuracy}")
    if manifest.predicted is not None:
        parts.append(
            f"to expect on such traffic: {manifest.predicted['ratio']:.3f} of the original's time, as "
            f"measured on the held-out part, {manifest.predicted['hit_rate']:.1%} of the requests reused; "
            f"see {path / REPORT}"
        )
    return parts


def _what_is_stored(manifest: Manifest) -> str:
    if not manifest.entries:
        return f"{manifest.source}, no inputs stored"
    return f"{counted(manifest.entries, 'input')} of {manifest.source} stored"


def share(part: float | None) -> str:
    """A share of the model's multiply-adds; None: not known."""
    return "an unknown share" if part is None else f"{part:.1%}"


def _checked(checked: dict[str, Any], compact: bool) -> str:
    """What `onnx_memo.verify` found right."""
    libraries = checked.get("libraries")
    named = " and ".join(map(str, libraries)) if isinstance(libraries, list) else "?"
    found = "with nothing reused, " + ("in 8 bits at every memo_strictness" if compact else "identical")
    requests = checked.get("requests")
    ran = counted(requests, "request") if isinstance(requests, int) else "? requests"
    text = f"checked on {ran} ({named}): {found}"
    error = checked.get("stored_error")
    return f"{text}; stored inputs off by at most {error:.1g}" if isinstance(error, float) else text
