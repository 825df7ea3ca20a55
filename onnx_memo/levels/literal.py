"""Literal repeats: what goes in is, row by row, what is stored."""

from __future__ import annotations

EPSILON = 0.002  # relative change of a row above which it is no repeat; stored rows are rounded to 5e-4
RADIUS = 1e6  # key distance up to which an entry is looked at: any, where nothing was learned of distances


def hit_name(name: str) -> str:
    """The name of the value that says whether what a guard finds is reused, bool."""
    return f"memo/{name}/reused"
