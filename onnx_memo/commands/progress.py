"""How far long work has come: bars in a terminal, and lines now and then where there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from onnx_memo import interrupts
from onnx_memo.progress import Progress, Step

EVERY = 10.0  # seconds, at least, from one line to the next: short work says nothing


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Progress on standard error, so that standard output stays clean; signals end the work between parts."""
    err = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    if not err.is_terminal:
        yield _Lines(err).start
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=err, transient=True) as bars:

        def start(step: str, parts: int) -> Callable[[], None]:
            for other in bars.task_ids:
                bars.update(other, visible=False)
            task, now = bars.add_task(step, total=parts), Step(step, parts)

            def advance() -> None:
                interrupts.check()
                now.done += 1
                bars.update(task, advance=1, visible=now.done < now.parts)

            return advance

        yield start


class _Lines:
    """A line each time that the last one, or the beginning, is `EVERY` seconds ago."""

    def __init__(self, console: Console) -> None:
        self.console, self.told = console, time.monotonic()

    def start(self, step: str, parts: int) -> Callable[[], None]:
        """Begin a step (`Progress`)."""
        now = Step(step, parts)
        self._tell(now)

        def advance() -> None:
            interrupts.check()
            now.done += 1
            self._tell(now)

        return advance

    def _tell(self, step: Step) -> None:
        if time.monotonic() - self.told >= EVERY:
            self.told = time.monotonic()
            self.console.print(str(step))
