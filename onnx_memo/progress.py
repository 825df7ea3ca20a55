"""How long work tells of its progress, without knowing who listens."""

from __future__ import annotations

import time
from collections.abc import Callable

# Called at the start of a step with its name and number of parts; returns what to call after each part.
Progress = Callable[[str, int], Callable[[], None]]


def silent(step: str, parts: int) -> Callable[[], None]:
    """A `Progress` that nobody sees."""
    del step, parts
    return lambda: None


class Step:
    """One step, as far as it has come; as text, it says so, and about how long the rest will take.

    Attributes:
        name: what is done.
        parts: how many there are.
        done: how many of them are done.
    """

    def __init__(self, name: str, parts: int) -> None:
        self.name, self.parts, self.done = name, parts, 0
        self._begun = time.monotonic()

    def __str__(self) -> str:
        told = f"{self.name}: {self.done:,} of {self.parts:,}"
        if not 0 < self.done < self.parts:
            return told
        left = (time.monotonic() - self._begun) * (self.parts - self.done) / self.done
        return f"{told}, about {left:.0f} s left" if left < 90 else f"{told}, about {left / 60:.0f} min left"
