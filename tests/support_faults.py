"""How many faults the tests make, and runs of the command line that may be killed, or crash.

The tests that make faults are marked `faults`. `make test` makes some of them; with `ONNX_MEMO_FAULTS=full`,
as `make faults` has it, all.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

FULL = os.environ.get("ONNX_MEMO_FAULTS") == "full"


def count(short: int, full: int) -> int:
    """How many faults are made."""
    return full if FULL else short


def seeds(short: int, full: int) -> Any:
    """Run a test once for each `seed`, which its id names."""
    numbers = range(count(short, full))
    return pytest.mark.parametrize("seed", numbers, ids=[f"seed={number}" for number in numbers])


def examples(short: int, full: int) -> settings:
    """How many examples Hypothesis makes, the same ones each time."""
    return settings(
        max_examples=count(short, full),
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


# ---- Places in JSON


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in what JSON holds, as the keys that lead to it."""
    yield path
    if isinstance(content, dict | list):
        for key, part in content.items() if isinstance(content, dict) else enumerate(content):
            yield from places(part, (*path, key))


def changed_at(content: Any, path: Sequence[Any], value: Any) -> Any:
    """A copy with another value at a place."""
    if not path:
        return value
    content = copy.deepcopy(content)
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return content


# ---- Runs in processes of their own


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, or the negative number of the signal that killed it."""

    code: int
    out: str
    err: str

    def check(self) -> None:
        """It ended with a code that there is, or was killed from outside; without a traceback."""
        assert "Traceback" not in self.err, self.err
        assert self.code in ENDS or -self.code in KILLS, self
        if self.code > 0:
            assert self.err.startswith("onnx-memo: "), self
            assert self.err.count("\n") == 1, self


@dataclass(frozen=True)
class Kill:
    """A signal, `seconds` after the beginning, or right before the `change`th change of the file system."""

    number: signal.Signals
    seconds: float | None = None
    change: int | None = None


KILLS = tuple(int(getattr(signal, name, 0)) for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"))
ENDS = {0, 2, 3, *(128 + number for number in KILLS[1:] if number)}  # the exit codes that there are
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"}


def is_change(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an audit event of Python changes the file system."""
    if event == "open":  # of (path, mode, flags)
        return bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in CHANGES


def _run(line: list[str], folder: Path, kill: Kill | None) -> None:
    """The body of a process: the command `line`, its output in files of `folder`."""
    for number in KILLS[1:]:  # what comes before the command has begun just kills
        signal.signal(number, signal.SIG_DFL)
    for name, stream in (("out", 1), ("err", 2)):
        handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, stream)
    from onnx_memo.cli import main

    count = 0

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if is_change(event, arguments):
            count += 1
            if kill is not None and count == kill.change:
                os.kill(os.getpid(), kill.number)

    sys.addaudithook(audit)
    if kill is not None and kill.seconds is not None:
        threading.Timer(kill.seconds, os.kill, (os.getpid(), kill.number)).start()
    sys.argv = ["onnx-memo", *line]
    try:
        main()
    except SystemExit as ended:
        code = ended.code
        _end(folder, count, code if isinstance(code, int) else int(code is not None))
    except BaseException:
        import traceback

        traceback.print_exc()
        _end(folder, count, 1)


def _end(folder: Path, changes: int, code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    (folder / "changes").write_text(str(changes))
    os._exit(code)


@dataclass(frozen=True)
class Runs:
    """Runs the command line in processes forked from one that has loaded the package, and no more."""

    folder: Path

    def __call__(self, *line: object, kill: Kill | None = None) -> Ended:
        """Run a command, perhaps to be killed."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["onnx_memo.cli", "support_faults"])
        process = context.Process(target=_run, args=([str(part) for part in line], self.folder, kill))
        process.start()
        process.join(120)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise AssertionError(f"hangs: {line}")
        out, err = ((self.folder / name).read_text(errors="replace") for name in ("out", "err"))
        return Ended(process.exitcode, out, err)

    @property
    def changes(self) -> int:
        """How often the last run changed the file system, if it was not killed."""
        return int((self.folder / "changes").read_text())
