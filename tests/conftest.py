"""Fixtures that all tests share; plain helpers are in `support`."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from support import MODES, Arrays, fixture, original, raced, random_samples, write_samples
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import onnx_memo
from onnx_memo import interrupts
from onnx_memo.cli import main
from onnx_memo.commands import progress
from onnx_memo.levels.rows.trial import RowsTrial
from onnx_memo.levels.sites.choose import Chooser
from onnx_memo.threads import one_thread

STORED_LENGTHS = (1, 2, 5, 7, 8, 9, 16, 23, 23, 31, 47, 60)

# An example that takes long on a busy machine is no failure.
settings.register_profile("any pace", deadline=None)
settings.load_profile("any pace")


@dataclass(frozen=True)
class Made:
    """A bundle, and what it was made from."""

    bundle: Path
    model: Path
    data: Path
    samples: list[Arrays]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """`stock` and `native`."""
    return request.param


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """As a run has it: else steps that a test takes by themselves wait for threads many times as long."""
    with one_thread():
        yield


@pytest.fixture(scope="session")
def rows_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `made_rows` makes bundles that many files of tests share."""
    return tmp_path_factory.mktemp("rows")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """Bundles of the fixtures, each made once and never changed: `made(name, level)`."""
    done: dict[tuple[str, str], Made] = {}

    def make(name: str, level: str = "output") -> Made:
        if (name, level) not in done:
            folder = tmp_path_factory.mktemp(f"{name}-{level}")
            samples = random_samples(original(fixture(name)), STORED_LENGTHS, seed=1)
            data = write_samples(folder / "data.npz", samples)
            result = onnx_memo.optimize(fixture(name), data, folder / "bundle", level=level)
            done[name, level] = Made(result.path, fixture(name), data, samples)
        return done[name, level]

    return make


@pytest.fixture
def everything_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions rest on timings, tests must not: all that is reused saves the same, any bundle is kept."""
    monkeypatch.setattr(Chooser, "saving", lambda self, level, name: 0.1 * self.original_us)
    monkeypatch.setattr(RowsTrial, "race", lambda self, samples, original, strictness: raced(0.1))
    for name, module in list(sys.modules.items()):
        if name.startswith("onnx_memo.") and hasattr(module, "PAYS"):
            monkeypatch.setattr(module, "PAYS", 1e9)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """Words `a` to `e` are 1 to 5; every text begins with token 0."""
    words = {"[CLS]": 0, "a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "[UNK]": 6}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 0)])
    made.enable_padding(length=16)
    path = tmp_path / "tokenizer.json"
    made.save(str(path))
    return path


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run `onnx-memo` in this process, through its entry point."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["onnx-memo", *map(str, arguments)])
        monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
        monkeypatch.setattr(progress, "EVERY", math.inf)  # however slow the machine, no lines of progress
        handlers = {number: signal.getsignal(number) for number in interrupts.NUMBERS}
        capfd.readouterr()
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        captured = capfd.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)

    return run
