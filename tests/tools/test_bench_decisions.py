"""The benchmark of decisions: what a workload's rows say, and what the README takes from them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnxruntime as ort
import pytest
from support import fixture, variants, write_samples

from onnx_memo.errors import MemoError
from onnx_memo.proof.measure import Seen
from tools import bench_decisions
from tools.bench_decisions import Row, Workload, section
from tools.measure import Workshop
from tools.readme import write_decisions

STAYS = {"the nearest neighbour stays": 0.97, "of the ten nearest stay": 0.99}


def row(promise: str, ratio: float, **changed) -> Row:
    kept = changed.pop("kept", STAYS)
    made = Row("logs", "log lines", "M", 5.0, promise, ratio, 0.01, 0.5, 1e-3, kept, False, True, "")
    return replace(made, **changed)


ROWS = [
    row("int8", 0.43, kept={"the nearest neighbour stays": 0.62, "of the ten nearest stay": 0.9}, held=None),
    row("--tolerance 0.01", 0.3),
    row("--keep 0.95", 0.72),
    row("--keep 0.99", 1.0, reason="it does not pay", held=None),
]


def test_the_readme_states_decisions_kept(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("# It\n\nDoes it.\n\nMore.\n", encoding="utf-8")
    for _ in range(2):
        write_decisions(readme, tmp_path, ROWS)
    told = readme.read_text(encoding="utf-8")
    assert told.startswith("# It\n\nDoes it.\n\n<!-- picture -->\n![")
    assert told.endswith("<!-- /picture -->\n\nMore.\n")
    assert told.count("| log lines | the nearest neighbour stays | 0.43 | 62% | 0.72 | 97% |") == 1
    ElementTree.fromstring((tmp_path / "gain.svg").read_text(encoding="utf-8"))


def test_of_a_ranking_all_that_is_promised_is_stated(tmp_path):
    ranked = [replace(one, about_many=True) for one in ROWS]
    write_decisions(tmp_path / "README.md", tmp_path, ranked)
    told = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| 62%; 90% | 0.72 | 97%; 99% |" in told


def test_where_nothing_pays_the_original_runs(tmp_path):
    rows = [ROWS[0], row("--keep 0.95", 1.0, reason="it does not pay", held=None)]
    write_decisions(tmp_path / "README.md", tmp_path, rows)
    assert "1, the original" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_without_a_rival_its_cells_are_empty(tmp_path):
    write_decisions(tmp_path / "README.md", tmp_path, ROWS[1:])
    told = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| log lines | the nearest neighbour stays |  |  | 0.72 | 97% |" in told
    assert "| log lines | 5.00 | `--tolerance 0.01` |" in section(ROWS[1:])


def test_the_section_has_a_line_for_each_model_and_tells_a_broken_promise():
    text = section([*ROWS, row("--keep 0.95", 0.5, held=False)])
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert len(lines) == 5
    assert [line.split("|")[-2].strip() for line in lines] == ["", "yes", "yes", "", "**no**"]
    assert "`--keep 0.99` | 1, the original" in lines[3]


@pytest.mark.parametrize(
    ("promise", "kept", "about_many", "held"),
    [
        ("--keep 0.95", {"first": 0.95, "second": 0.5}, False, True),
        ("--keep 0.95", {"first": 0.95, "second": 0.5}, True, False),
        ("--keep 0.99", {"first": 0.98}, False, False),
        ("--tolerance 0.01", {"first": 0.1}, False, True),
    ],
)
def test_a_promise_is_held_where_what_was_promised_stays(promise, kept, about_many, held):
    errors = Seen(np.asarray([0.01] * 95 + [0.02] * 5), np.zeros((100, 0)))
    assert bench_decisions._held(promise, errors, kept, about_many) is held


def test_a_workload_is_measured_with_all_models_in_turn(tmp_path, monkeypatch):
    """Without bundles, since nothing pays on a model of this size; the rival is the model itself."""

    def nothing_pays(*arguments, **options):
        raise MemoError("nothing pays")

    def written(lines, to: Path, tokenizer: Path) -> None:
        write_samples(to, lines)

    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "model.onnx").write_bytes(Path(fixture("bert")).read_bytes())
    work = Workload("tiny", "tiny", lambda: (variants(40, seed=1), variants(12, seed=2)), ".npz")
    monkeypatch.setattr(bench_decisions, "WORKLOADS", {"tiny": work})
    monkeypatch.setattr(bench_decisions, "RECIPES", {"tiny": lambda cache: tmp_path / "tiny"})
    monkeypatch.setattr(bench_decisions, "write", written)
    monkeypatch.setattr(bench_decisions.int8, "bring", lambda model: model)
    rows = bench_decisions.measured("tiny", Workshop(tmp_path / "kept", optimizer=nothing_pays), False)
    assert [one.promise for one in rows] == ["int8", *bench_decisions.PROMISES]
    for one in rows:
        assert one.error == 0
        assert [*one.kept.values()] == [1.0, 1.0]
        assert one.held is None
    assert rows[0].ratio == pytest.approx(1, abs=0.9), "the model against itself"
    assert [one.ratio for one in rows[1:]] == [1.0] * 3
    assert rows[1].reason == "nothing pays"
    assert Row(**json.loads(json.dumps(asdict(rows[0])))) == rows[0]
    assert ort.__version__ in rows[0].machine
