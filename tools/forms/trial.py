"""One form through `onnx-memo`: what is found in it, what is made of it, and whether that is right."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

import onnx_memo
from models import minilm, news
from models.bring import CACHE
from onnx_memo.data.samples import Arrays
from onnx_memo.errors import MemoError
from onnx_memo.proof.answer import real_rows
from onnx_memo.proof.metrics import relative
from onnx_memo.runtime import session_options
from onnx_memo.sessions import Raced, open_file, race, runner
from tools.forms.form import Form, Kitchen, NotMade, one_line
from tools.forms.inputs import Inputs
from tools.lookalikes import sshd
from tools.measure import kinds, reused, write_lines

STORED, UNSEEN = 1, 2  # seeds
LENGTHS = (3, 5, 9, 9, 12, 16, 23, 31)  # of stored inputs, beside those of the timed length
TIMED, ROUNDS, PARTS = 8, 21, 3
REAL_TOKENS = 128  # at which trained models are timed
UNEVEN = (5, 23, 9, 16)  # a batch of them
TOLERANCE, LINES = 0.002, 200  # of the trial in 8 bits
LOG_TOLERANCE, LOG_LINES = 0.01, 300  # of the trial with near repeats
EQUAL, ONE_ONLY = "identical", "takes 1 only"


@dataclass
class Row:
    """What came of a form; what was not reached is None.

    Attributes:
        name: of the form.
        unmade: why it could not be made here, or why ONNX Runtime does not run it.
        size: of the model's file, in bytes.
        failed: what ended the trial though it should not: a defect.
        sites: how many attention blocks are found.
        refusals: the reasons why a softmax or attention operator is none.
        levels: that `onnx-memo inspect` allows.
        why_no_rows: the reason, where `rows` is not among them, or for literal repeats alone.
        refused: why `onnx-memo optimize` writes nothing.
        level: of the bundle.
        misses: by batch and library (`1 native`), `identical`, or what differs.
        stored: by library, the largest relative L2 error of a stored input's answer.
        hits: the share of stored inputs that are reused, and of those that are not stored.
        ratio: time of a literal repeat over the original's, and half the range over parts of the rounds.
        int8: time in 8 bits over the original's, or why there is none; only of trained models.
        templated: time with near repeats reused over the original's, or why there is none; as `int8`.
    """

    name: str
    unmade: str | None = None
    size: int | None = None
    failed: str | None = None
    sites: int | None = None
    refusals: list[str] = field(default_factory=list)
    levels: list[str] = field(default_factory=list)
    why_no_rows: str | None = None
    refused: str | None = None
    level: str | None = None
    misses: dict[str, str] = field(default_factory=dict)
    stored: dict[str, float] = field(default_factory=dict)
    hits: tuple[float, float] | None = None
    ratio: tuple[float, float] | None = None
    int8: float | str | None = None
    templated: float | str | None = None

    def as_json(self) -> dict[str, Any]:
        """As one object."""
        return asdict(self)


def tried(form: Form, kitchen: Kitchen) -> Row:
    """Try `form`."""
    row = Row(form.name)
    try:
        path = kitchen.made(form.name)
        row.size = sum(file.stat().st_size for file in path.parent.iterdir() if file.suffix != ".json")
        with tempfile.TemporaryDirectory() as folder:
            _try(row, form, kitchen, path, Path(folder))
    except NotMade as error:
        row.unmade = str(error)
    except Exception as error:  # whatever goes wrong is what the table is to show
        row.failed = one_line(error)
    return row


def _try(row: Row, form: Form, kitchen: Kitchen, path: Path, folder: Path) -> None:
    try:
        original = open_file(path, session_options(native=False, threads=1))
    except MemoError as error:
        row.unmade = _reason(error, path)
        return
    try:
        inspect_into(row, path)
    except MemoError as error:
        row.refused = _reason(error, path)
        return
    inputs = Inputs(original, form, kitchen.scale)
    tokens = REAL_TOKENS if form.real else kitchen.scale.tokens
    samples = inputs.samples([*LENGTHS, *[tokens] * TIMED], STORED)
    data = folder / "data.npz"
    np.savez(data, allow_pickle=False, **inputs.joined(samples))
    bundle = folder / "bundle"
    try:
        made = onnx_memo.optimize(path, data, bundle)
    except MemoError as error:
        row.refused = _reason(error, path)
    else:
        row.level = made.manifest.sites[0].level
        unseen = inputs.samples([*LENGTHS, tokens], UNSEEN)
        uneven = inputs.joined(inputs.samples(UNEVEN, UNSEEN), form.side)
        one_only = not _runs(original, uneven)
        for library in kinds():
            options = session_options(native=library == "native", threads=1)
            ours = open_file(bundle / "model.onnx", options)
            row.misses[f"1 {library}"] = misses(original, ours, unseen)
            row.misses[f"4 {library}"] = ONE_ONLY if one_only else misses(original, ours, [uneven])
            row.stored[library] = stored_error(original, ours, samples)
        row.hits = reused(bundle, samples)[0], reused(bundle, unseen)[0]
        raced = race([runner(original), runner(ours)], samples[-TIMED:], ROUNDS)
        parts = [Raced(part).ratio for part in np.array_split(raced.seconds, PARTS)]
        row.ratio = raced.ratio, (max(parts) - min(parts)) / 2


def _reason(error: MemoError, path: Path) -> str:
    """What the tool says, without the place of the file on this machine."""
    return str(error).replace(str(path), path.name)


def _runs(session: ort.InferenceSession, request: Arrays) -> bool:
    try:
        session.run(None, request)
    except Exception:  # ONNX Runtime's errors share no public base class
        return False
    return True


def inspect_into(row: Row, path: Path) -> None:
    """What `onnx-memo inspect` finds."""
    found = onnx_memo.inspect(path)
    row.sites = len(found.sites)
    row.refusals = sorted(set(found.refusals.values()))
    row.levels = (["rows"] if found.repeats else []) + sorted(
        {level for site in found.sites for level in site.levels}
    )
    row.why_no_rows = found.why_no_rows


def misses(original: ort.InferenceSession, ours: ort.InferenceSession, requests: Sequence[Arrays]) -> str:
    """Whether answers are the original's to the last bit; else how far they are off."""
    worst = None
    for request in requests:
        for want, have in zip(original.run(None, request), ours.run(None, request), strict=True):
            if want.shape != have.shape:
                return f"shape {list(have.shape)} for {list(want.shape)}"
            if want.tobytes() != have.tobytes():
                apart = np.nanmax(np.abs(want.astype(np.float64) - have.astype(np.float64)))
                worst = max(worst or 0.0, float(apart))
    return EQUAL if worst is None else f"off by {worst:.1g}"


def stored_error(
    original: ort.InferenceSession, ours: ort.InferenceSession, samples: Sequence[Arrays]
) -> float:
    """The largest relative L2 error of an answer, worst over the outputs of floats."""
    worst = 0.0
    for sample in samples:
        mask = sample["attention_mask"][0] != 0 if "attention_mask" in sample else None
        for want, have in zip(original.run(None, sample), ours.run(None, sample), strict=True):
            if np.issubdtype(want.dtype, np.floating):
                worst = max(worst, relative(want[0], have[0], real_rows(want, mask)))
    return worst


def tried_in_8_bits(form: Form, kitchen: Kitchen) -> float | str:
    """The time of every request in 8 bits over the original's, as `optimize` predicts it; else why not."""
    news.bring(CACHE)
    lines = (CACHE / "news.txt").read_text(encoding="utf-8").splitlines()[:LINES]
    return _predicted(form, kitchen, lines, level="int8", tolerance=TOLERANCE)


def tried_on_templates(form: Form, kitchen: Kitchen) -> float | str:
    """The time of a line of a log that near repeats serve over the original's, likewise."""
    return _predicted(form, kitchen, sshd.lines(LOG_LINES), level="rows", tolerance=LOG_TOLERANCE)


def _predicted(form: Form, kitchen: Kitchen, lines: Sequence[str], **wanted: Any) -> float | str:
    path, tokenizer = kitchen.made(form.name), minilm.bring(CACHE) / "tokenizer.json"
    with tempfile.TemporaryDirectory() as folder:
        data, bundle = write_lines(Path(folder) / "lines.txt", lines), Path(folder) / "bundle"
        try:
            made = onnx_memo.optimize(path, data, bundle, tokenizer=tokenizer, **wanted)
        except MemoError as error:
            return _reason(error, path)
        except Exception as error:  # whatever goes wrong is what the table is to show
            return f"**defect**: {one_line(error)}"
    assert made.predicted is not None
    return float(made.predicted.ratio)
