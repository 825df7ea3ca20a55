"""A plan: which sites are guarded, at which level, and where entries are looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx_memo.words import counted


@dataclass(frozen=True)
class Plan:
    """`levels` maps the names of the guarded sites, in the model's order, to their levels.

    With `shared`, the first guarded site looks up and the others reuse its entry; else each looks up.
    """

    levels: Mapping[str, str]
    shared: bool

    @property
    def lookups(self) -> list[str]:
        """The names of the sites that look up."""
        names = list(self.levels)
        return names[:1] if self.shared else names

    def __str__(self) -> str:
        counts = {
            level: list(self.levels.values()).count(level) for level in dict.fromkeys(self.levels.values())
        }
        sites = " and ".join(f"{level} at {counted(count, 'site')}" for level, count in counts.items())
        return sites + (", one lookup" if self.shared else ", a lookup at each")
