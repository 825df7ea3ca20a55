"""Bundles in every ONNX Runtime that we claim, from the oldest on, native and stock.

`make test` brings the older versions to `.cache/`, beside the environment's own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support import ATTENTION, LEVELS, ROOT, Arrays, fixture, memoized, original, random_samples
from support_rows import ENCODERS, TINY, Built, changed_at, changed_last, made_rows

import onnx_memo
from onnx_memo.levels.inserter import STRICTNESS

PINNED = re.search(r"^ORT_VERSIONS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
assert PINNED, "the Makefile names the versions"
VERSIONS = [*PINNED[1].split(), ort.__version__]
REUSED = 1e-5  # how far an answer that reuses something may be from that in the environment's own version
INT8 = 0.02  # the same, where rounding may turn another way

RUN = """
import json, sys
import numpy as np, onnxruntime

folder, version, library = sys.argv[1:]
assert onnxruntime.__version__ == version, onnxruntime.__version__


def session(path, library=""):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if library:
        options.register_custom_ops_library(library)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


originals = {}
for number, case in enumerate(json.load(open(f"{folder}/cases.json"))):
    original = originals.get(case["model"]) or originals.setdefault(case["model"], session(case["model"]))
    bundle = session(case["bundle"], library if case["mode"] == "native" else "")
    for kind in case["kinds"]:
        feeds = dict(np.load(f"{folder}/{number}.{kind}.npz"))
        want = feeds.pop("want")
        have = bundle.run(None, feeds)[0]
        feeds.pop("memo_strictness", None)
        same = have.tobytes() == original.run(None, feeds)[0].tobytes()
        print(json.dumps([number, kind, same, float(np.linalg.norm(have - want) / np.linalg.norm(want))]))
"""


@dataclass(frozen=True)
class Case:
    """A bundle, how it is opened, and the kinds of requests that it gets."""

    name: str
    level: str
    mode: str
    model: str
    bundle: str
    kinds: list[str]


def requests(built: Built, partly: bool) -> Iterator[tuple[str, Arrays]]:
    stored, other = built.samples[8], random_samples(original(built.model), [16], seed=1000)[0]
    off = {STRICTNESS: np.zeros((), np.float32)}
    yield "repeat", stored
    yield "off", stored | off
    if not partly:
        yield "miss", other
        return
    # Changed rows alone, then such as join later, then nearly all.
    for kind, strictness in ("few", 1.0), ("more", 0.1), ("most", TINY):
        near = changed_last(stored) if "pixel_values" in stored else changed_at(stored, 1, 7)
        yield kind, near | {STRICTNESS: np.asarray(strictness, np.float32)}
    yield "miss", other | off


@pytest.fixture(scope="module")
def cases(made, rows_root, tmp_path_factory) -> tuple[Path, list[Case]]:
    """All cases, with what the environment's own version answers, in files for `RUN`."""
    folder = tmp_path_factory.mktemp("cases")
    bundles: list[tuple[str, str, Built]] = []
    for name in ATTENTION:
        levels = [*LEVELS, *(["rows"] if name in ENCODERS else [])]
        for level in levels:
            done = made(name, level)
            bundles.append((name, level, Built(done.bundle, done.model, done.samples)))
    for name in ENCODERS:
        bundles.append((name, "rows, partly", made_rows(name, rows_root)))
        bundles.append((name, "rows, int8", made_rows(name, rows_root, int8=100)))
    found = []
    for name in ATTENTION + ENCODERS:  # one of them states an IR version that the oldest does not read
        model = ir.load(fixture(name))
        model.ir_version = 8
        ir.save(model, folder / f"{name}.onnx")
    for name, level, built in bundles:
        for mode in ["stock", *(["native"] if onnx_memo.library_path() else [])]:
            session = memoized(built.bundle, mode)
            kinds = []
            for kind, feeds in requests(built, "," in level):
                kinds.append(kind)
                np.savez(folder / f"{len(found)}.{kind}.npz", want=session.run(None, feeds)[0], **feeds)
            model, bundle = folder / f"{name}.onnx", built.bundle / "model.onnx"
            found.append(Case(name, level, mode, str(model), str(bundle), kinds))
    (folder / "cases.json").write_text(json.dumps([asdict(case) for case in found]))
    return folder, found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_gives_the_same_answers(cases, version):
    folder, every = cases
    place = ROOT / ".cache" / f"onnxruntime-{version}"
    if version != ort.__version__ and not place.is_dir():
        pytest.skip(f"no ONNX Runtime {version} in .cache: `make test` brings it")
    ended = subprocess.run(
        [sys.executable, "-c", RUN, folder, version, str(onnx_memo.library_path() or "")],
        env=os.environ | {"PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    answers = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(answers) == sum(len(case.kinds) for case in every)
    for number, kind, same, error in answers:
        case = every[number]
        about = f"{case.name} at {case.level}, {case.mode}: {kind}, off by {error}"
        assert same or kind not in ("miss", "off"), about
        assert error <= (INT8 if "int8" in case.level else REUSED), about
