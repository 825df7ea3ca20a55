"""The manifest of a bundle: what it says, and how it is read from a file that may come from anywhere."""

from __future__ import annotations

import types
from dataclasses import asdict, dataclass, field, is_dataclass
from sys import float_info
from typing import Any, get_args, get_origin, get_type_hints

from onnx_memo.proof.accuracy import Accuracy
from onnx_memo.proof.decisions import SLACK

FORMAT = 2


@dataclass(frozen=True)
class GuardedSite:
    """One guard, as the manifest tells it.

    `threshold` is a distance of keys; at the level `rows` it is the bound, and 0 where only literal repeats
    are reused. `share` of the model's multiply-adds that a hit spares is None where it is not known.
    """

    name: str
    softmax: str
    level: str
    threshold: float
    lookup: bool  # False: reuses the entry of the site before it
    heads: int
    width: int
    share: float | None


@dataclass(frozen=True)
class Promised:
    """What was proven of requests like the sample, with `confidence`: of at least the share `within` of them
    the error by `metric` is at most `tolerance`; where that is None, `metric` is the decision that stays.
    Errors count from the original's answers, or those of `reference`, a file's name, with its SHA-256. Only
    `outputs` count, or all where none is named; of neighbours, what is within `slack` times the nearest's
    distance is as near, by default `onnx_memo.proof.decisions.SLACK`."""

    metric: str
    tolerance: float | None
    within: float
    confidence: float
    reference: str | None = None
    reference_sha256: str | None = None
    outputs: list[str] = field(default_factory=list)
    slack: float = SLACK

    def __str__(self) -> str:
        """For people."""
        original, its = "the original", "the original's"
        if self.reference is not None:
            original = f"the reference '{self.reference}'"
            its = f"those of {original}"
        kept = (
            f"of the decisions ({self.metric}) stay as with {original}"
            if self.tolerance is None
            else f"of the answers are within {self.tolerance:g} of {its} ({self.metric})"
        )
        return (
            f"promised for requests like the sample: at least {100 * self.within:.4g} % {kept}; proven with "
            f"{100 * self.confidence:.4g} % confidence on requests that nothing else saw"
        )


@dataclass(frozen=True)
class Manifest:
    """What a bundle is made of.

    `files` maps names to sizes and SHA-256. `predicted` holds the `ratio` of time, its `noise` and the
    `hit_rate` to expect, where the bundle was made for a tolerance: one request at a time, on one thread,
    with the operators that `predicted_with` names, `native` or `stock`. `source_sha256` is that of the
    original's `.onnx` file; of a directory, `source_file` is that file's name in it. Both are None where it
    was exported, for `task`. `checked` is what the bundle was checked with when it was written
    (`onnx_memo.verify`). `promised` is what was proven, where anything was asked for. `accuracy` is that on
    the held-out part, where the data held true labels. In a `compact` bundle the original's weights are left
    out.
    """

    version: str
    source: str
    entries: int
    tokens: int
    sites: list[GuardedSite]
    notes: list[str]
    files: dict[str, dict[str, int | str]]
    predicted: dict[str, float] | None = None
    predicted_with: str | None = None
    source_sha256: str | None = None
    source_file: str | None = None
    task: str | None = None
    checked: dict[str, int | float | list[str] | None] | None = None
    promised: Promised | None = None
    accuracy: Accuracy | None = None
    compact: bool = False
    format: int = FORMAT

    def as_json(self) -> dict[str, Any]:
        """As one object, the way it is stored."""
        return asdict(self)


def parse_manifest(content: Any) -> Manifest:
    """The manifest from what its JSON holds.

    Raises:
        ValueError: a field is missing, of another type, or not known.
    """
    manifest: Manifest = _parsed("the manifest", content, Manifest)
    for name, file in manifest.files.items():
        if not (isinstance(file.get("bytes"), int) and isinstance(file.get("sha256"), str)):
            raise ValueError(f"no size and digest of {name!r}")
    if manifest.predicted is not None and not {"ratio", "hit_rate"} <= manifest.predicted.keys():
        raise ValueError("it predicts no ratio and hit rate")
    return manifest


def _parsed(where: str, content: Any, wanted: Any) -> Any:
    """`content` as the type `wanted`: of dataclasses, lists, dictionaries, unions and what JSON has."""
    if is_dataclass(wanted) and isinstance(wanted, type):
        return _parsed_object(where, content, wanted)
    kind, parts = get_origin(wanted), get_args(wanted)
    if kind is list and isinstance(content, list):
        return [_parsed(f"{where}[{at}]", part, parts[0]) for at, part in enumerate(content)]
    if kind is dict and isinstance(content, dict):
        return {str(key): _parsed(f"{where}.{key!r}", part, parts[1]) for key, part in content.items()}
    if kind is types.UnionType:
        fitting = [part for part in parts if _is_a(content, part)]
        if fitting:
            return _parsed(where, content, fitting[0])
    elif kind is None and _is_a(content, wanted):
        return content
    raise ValueError(f"{where} is of another type")


def _is_a(content: Any, wanted: Any) -> bool:
    """Whether a value of JSON is of a type, as far as its surface says; a truth value is no number."""
    if isinstance(content, bool):
        return wanted is bool
    if is_dataclass(wanted):
        return isinstance(content, dict)
    if wanted is float:
        return isinstance(content, float) or (isinstance(content, int) and abs(content) <= float_info.max)
    return isinstance(content, get_origin(wanted) or wanted)


def _parsed_object(where: str, content: Any, wanted: type) -> Any:
    if not isinstance(content, dict):
        raise ValueError(f"{where} is of another type")
    hints = get_type_hints(wanted)
    unknown = [str(key) for key in content if key not in hints]
    if unknown:
        raise ValueError(f"{where} has a field {unknown[0][:80]!r} that is not known")
    fields = {key: _parsed(f"{where}.{key}", part, hints[key]) for key, part in content.items()}
    try:
        return wanted(**fields)
    except TypeError as error:  # a field is missing
        raise ValueError(f"{where}: {error}") from error
