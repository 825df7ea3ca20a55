"""The signals that end a run: they are raised as `Interrupted`, until a bundle takes its place.

From then on they come too late: the run ends as it would have ended. A program that does not `catch` them is
none of this module's business.
"""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable
from types import FrameType

NUMBERS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

_came: list[int] = []
_late = False


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP. Not KeyboardInterrupt, which typer answers in a way of its own.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def end_quietly() -> None:
    """Let signals end the process without a word, as long as nothing was begun."""
    _handle(signal.SIG_DFL)


def catch() -> None:
    """Raise the first signal that comes from now on. A second one finds what was begun being removed."""
    global _late
    _came.clear()
    _late = False
    sys.unraisablehook = functools.partial(_unraisable, sys.unraisablehook)
    _handle(_raise)


def check() -> None:
    """Raise a signal that came: raised inside a destructor or a callback, it would have been lost."""
    if _came and not _late:
        raise Interrupted(_came[0])


def too_late() -> None:
    """Raise none from now on."""
    global _late
    _late = True


def _handle(handler: signal.Handlers | Callable[[int, FrameType | None], None]) -> None:
    """Those that are ignored stay so: nohup, and shells in the background, mean it."""
    for number in NUMBERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _raise(number: int, _: FrameType | None) -> None:
    _came.append(number)
    if len(_came) == 1 and not _late:
        raise Interrupted(number)


def _unraisable(others: Callable[[sys.UnraisableHookArgs], None], problem: sys.UnraisableHookArgs) -> None:
    """Python prints what a destructor raises; `check` raises it again."""
    if not isinstance(problem.exc_value, Interrupted):
        others(problem)
