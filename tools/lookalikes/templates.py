"""Templates with fields: what all look-alikes are made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

Rng = np.random.Generator
MOST_TRIES = 1000  # in a row that give nothing new

_FIELD = re.compile(r"\{(\w+)\}")


def filled(template: str, values: Mapping[str, str]) -> str:
    """The template with the value of each field; a KeyError for a field without one."""
    return _FIELD.sub(lambda field: values[field[1]], template)


def fields_of(template: str) -> list[str]:
    """The names of a template's fields, in order."""
    return _FIELD.findall(template)


def pick(choices: Sequence[str], rng: Rng) -> str:
    """One of them, chosen evenly."""
    return choices[int(rng.integers(len(choices)))]


def distinct(draw: Callable[[], str], count: int) -> list[str]:
    """`count` different texts, in the order in which they were first drawn.

    Raises:
        ValueError: after `MOST_TRIES` draws in a row nothing new came: there are fewer.
    """
    found: dict[str, None] = {}
    tries = 0
    while len(found) < count:
        before = len(found)
        found.setdefault(draw())
        tries = 0 if len(found) > before else tries + 1
        if tries == MOST_TRIES:
            raise ValueError(f"{count} different texts were asked for, and there are about {before}")
    return list(found)
