"""What a command takes beyond mapped files: anonymous memory, step by step, and disk.

    python -m tools.measure_memory MODEL --data INPUTS [more options of `onnx-memo optimize`, but for -o]

runs `onnx-memo optimize` and samples RssAnon of its processes every 20 milliseconds: what lies in memory and
is no page of a file. Pages of mapped files do not count, since the system takes them back when it wants to.
On disk, files in the bundle's folder count. (A reflink counts as a copy; it cannot be told from one by its
size. Nameless files, into which sessions on large models pack weights, are not seen there, but count in what
is written.)
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from onnx_memo.graph.external import external_files
from onnx_memo.graph.load import load_model

MEBIBYTE = 2**20
EVERY = 0.02  # seconds between samples
STARTING = "starting"


class Watch:
    """Samples a process and its children while it runs.

    Attributes:
        anonymous: peak of RssAnon by step, in bytes.
        disk: peak of the new files in the folder, in bytes.
        written: bytes handed to the disk by the process.
    """

    def __init__(self, process: psutil.Process, folder: Path, known: set[tuple[int, int]]) -> None:
        """`known` are the files, by device and inode, that take nothing more."""
        self.anonymous: dict[str, int] = {}
        self.disk = self.written = 0
        self.step = STARTING
        self._process, self._folder, self._known = process, folder, known

    def run(self) -> None:
        """Sample until the process ends."""
        while self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE:
            try:
                tree = [self._process, *self._process.children(recursive=True)]
                now = sum(_anonymous(one.pid) for one in tree)
                self.written = max(self.written, self._process.io_counters().write_bytes)
            except psutil.NoSuchProcess:
                continue
            step = self.step
            self.anonymous[step] = max(self.anonymous.get(step, 0), now)
            self.disk = max(self.disk, new_bytes(self._folder, self._known))
            time.sleep(EVERY)


def new_bytes(folder: Path, known: set[tuple[int, int]]) -> int:
    """Bytes that the files below a folder take on disk, but for those that are `known`."""
    sizes = {}
    for place, _, names in os.walk(folder):
        for file in (Path(place, name) for name in names):
            with contextlib.suppress(FileNotFoundError):  # it went meanwhile
                status = file.lstat()
                sizes[status.st_dev, status.st_ino] = 512 * status.st_blocks
    return sum(size for file, size in sizes.items() if file not in known)


def _anonymous(pid: int) -> int:
    """RssAnon of a process, in bytes; 0 where it ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def measure(model: Path, options: list[str], out: Path) -> tuple[Watch, int]:
    """Run `onnx-memo optimize`; what was seen, and the exit code."""
    weights = [model.parent / name for name in external_files(load_model(model))]
    known = {(status.st_dev, status.st_ino) for status in map(os.stat, [model, *weights])}
    reading, writing = os.pipe()
    command = [sys.executable, "-m", __spec__.name, "--child", str(writing), "optimize", str(model), *options]
    with subprocess.Popen([*command, "-o", str(out)], pass_fds=[writing]) as process, open(reading) as steps:
        os.close(writing)
        watch = Watch(psutil.Process(process.pid), out.parent, known)
        sampler = threading.Thread(target=watch.run)
        sampler.start()
        for line in steps:
            watch.step = line.strip()
        sampler.join()
    return watch, process.returncode


def _child(pipe: int, arguments: list[str]) -> None:
    """The command itself, its steps told through a pipe."""
    from onnx_memo.commands import make

    steps = os.fdopen(pipe, "w", buffering=1)

    @contextlib.contextmanager
    def show_progress() -> Iterator[Callable[[str, int], Callable[[], None]]]:
        def start(step: str, parts: int) -> Callable[[], None]:
            done = 0
            print(step, file=steps)

            def advance() -> None:
                nonlocal done
                done += 1
                if done == parts:
                    print(f"after {step}", file=steps)

            return advance

        yield start

    make.show_progress = show_progress  # type: ignore[attr-defined]
    sys.argv[1:] = arguments
    from onnx_memo.cli import main as run

    run()


def main() -> None:
    """Print what was seen, as a table of Markdown."""
    if sys.argv[1:2] == ["--child"]:
        _child(int(sys.argv[2]), sys.argv[3:])
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--folder", type=Path, help="where the bundle is made; None: beside the model")
    given, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory(dir=given.folder or given.model.parent) as folder:
        start = time.perf_counter()
        watch, code = measure(given.model, options, Path(folder, "bundle"))
        seconds = time.perf_counter() - start
        kept = new_bytes(Path(folder), watch._known)
        weights = sum(
            (given.model.parent / n).stat().st_size for n in external_files(load_model(given.model))
        )
    print("| step | anonymous memory at most, MiB |\n|---|--:|")
    for step, most in watch.anonymous.items():
        print(f"| {step} | {most / MEBIBYTE:,.0f} |")
    print(f"| all | {max(watch.anonymous.values()) / MEBIBYTE:,.0f} |")
    print(f"\nexit code {code}, {seconds:.0f} s; weights {weights / MEBIBYTE:,.0f} MiB")
    for what, size in (("at the peak", watch.disk), ("in the end", kept), ("written", watch.written)):
        print(f"on disk {what}: {size / MEBIBYTE:,.0f} MiB, {size / weights:.2f} copies of the weights")


if __name__ == "__main__":
    main()
