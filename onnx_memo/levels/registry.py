"""All levels, in the order in which they are tried: what saves most comes first."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_memo.errors import MemoError
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.levels.attention import no_attention
from onnx_memo.levels.base import Level, NotAllowed, Use, Wanted
from onnx_memo.levels.int8.level import Int8Level
from onnx_memo.levels.rows.level import RowsLevel
from onnx_memo.levels.sites.level import SitesLevel
from onnx_memo.store.manifest import GuardedSite

LEVELS: list[Level] = [RowsLevel(), Int8Level(), SitesLevel()]


def level_of(guards: Sequence[GuardedSite]) -> Level:
    """The level of a bundle's guards.

    Raises:
        MemoError: none of that name is known.
    """
    names = {guard.level for guard in guards}
    for level in LEVELS:
        if names and names <= {*level.names}:
            return level
    raise MemoError(f"the bundle's level '{', '.join(sorted(names))}' is not known: update onnx-memo")


def check_options(wanted: Wanted) -> None:
    """Raises MemoError if the options name a level that is not there, or do not go with it."""
    names = [name for level in LEVELS for name in level.names]
    if wanted.level != "auto" and wanted.level not in names:
        raise MemoError(f"there is no level '{wanted.level}': choose auto, {', '.join(names)}")
    selective = any(level.selective for level in LEVELS if wanted.level in ("auto", *level.names))
    if wanted.selective is not None and not selective:
        raise MemoError(
            f"{wanted.selective} does not go with --level {wanted.level}, which guards no single attention "
            "blocks: omit one"
        )
    if wanted.exact_misses and any(level.rounds for level in LEVELS if wanted.level in level.names):
        raise MemoError(
            f"--exact-misses does not go with --level {wanted.level}, at which no request runs the original: "
            "omit one"
        )
    if wanted.compact:
        _check_compact(wanted)


def _check_compact(wanted: Wanted) -> None:
    """Raises MemoError if an option asks for what a compact bundle does not have."""
    if wanted.exact_misses:
        raise MemoError("--exact-misses asks for the original, which --compact leaves out: omit one")
    can = any(level.compact for level in LEVELS if wanted.level in ("auto", *level.names))
    if not can or wanted.selective is not None:
        given = wanted.selective or f"--level {wanted.level}"
        raise MemoError(
            f"{given} does not go with --compact, which leaves out the original's weights: where single "
            "attention blocks are guarded the original runs; omit one"
        )


def allowed(
    opened: OpenedModel, wanted: Wanted, notes: list[str], rounding: bool = True
) -> list[tuple[Level, Use]]:
    """The levels that the model and the options allow, at least one, in order.

    Without `rounding`, only a level that is named may change answers where nothing is reused; with
    `wanted.exact_misses` none may. With `wanted.compact` it has to do without the original's weights.

    Why a level is not possible goes to `notes`, unless one that comes before it is.

    Raises:
        MemoError: none is.
    """
    found: list[tuple[Level, Use]] = []
    reasons: list[str] = []
    for level in LEVELS:
        named = wanted.level in level.names
        if not (named or wanted.level == "auto") or (wanted.selective and not level.selective):
            continue
        if level.rounds and (wanted.exact_misses or not (rounding or named)):
            continue
        if wanted.compact and not level.compact:
            continue
        try:
            found.append((level, level.use(opened, wanted, notes)))
        except NotAllowed as refused:
            if named:
                raise MemoError(
                    f"'{opened.path}' does not allow the level '{wanted.level}': {refused}; try --level auto"
                ) from refused
            reasons.append(f"the level '{level.title}' is not possible: {refused}")
            if not found:
                notes.append(reasons[-1])
    if not found and not opened.findings.sites:
        raise MemoError(f"'{opened.path}' has {no_attention(opened)}")
    if not found:
        raise MemoError(f"'{opened.path}' allows no level: {'; '.join(reasons)}")
    return found
