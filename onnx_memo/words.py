"""How many of a thing, as people say it."""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 input was cut`, `1,200 inputs were cut`; `many` is `one` with an s, if it is not given."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
