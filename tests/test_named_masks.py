"""Masks of other names and types, from the user's data to a bundle that reuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support import (
    LEVELS,
    Arrays,
    assert_identical,
    change_mask,
    changed,
    join,
    memoized,
    original,
    relative_errors,
    variants,
)

import onnx_memo
from onnx_memo.levels.inserter import mask_of

TYPES = ("FLOAT", "FLOAT16", "DOUBLE", "BOOL", "INT32", "UINT8", "INT64")


def short(samples: list[Arrays], *lengths: int) -> list[Arrays]:
    return [
        {name: array[:, :length] for name, array in sample.items()}
        for sample, length in zip(samples, lengths, strict=True)
    ]


def called(sample: Arrays, name: str, dtype: np.dtype) -> Arrays:
    """A sample in which the mask has another name and type."""
    rest = {key: array for key, array in sample.items() if key != "attention_mask"}
    return rest | {name: sample["attention_mask"].astype(dtype)}


@pytest.fixture
def masked(tmp_path: Path):
    """BERT whose mask is `valid`, of some type; what optimizes it, padded to 9 tokens as users bring it."""

    def make(kind: str = "INT64", level: str = "auto", **options: object) -> tuple[Path, Path]:
        dtype = ir.DataType[kind]
        model = changed("bert", tmp_path / "model.onnx", lambda model: change_mask(model, "valid", dtype))
        padded = called(join(short(variants(3, seed=1), 3, 6, 9)), "valid", np.dtype(np.int64))
        np.savez(tmp_path / "data.npz", **padded)
        data, out = tmp_path / "data.npz", tmp_path / "bundle"
        return model, onnx_memo.optimize(model, data, out, level=level, **options).path

    return make


@pytest.mark.parametrize("level", [*LEVELS, "rows"])
@pytest.mark.parametrize("kind", TYPES)
def test_a_padded_repeat_is_reused_and_a_mask_with_holes_is_not(masked, mode, kind, level):
    model, bundle = masked(kind, level)
    dtype = ir.DataType[kind].numpy()
    before, after = original(model), memoized(bundle, mode)
    for sample in short(variants(3, seed=1), 3, 6, 9):
        stored = join([sample], padded=12)
        request = called(stored, "valid", dtype)
        want, have = before.run(None, request)[0], after.run(None, request)[0]
        assert np.abs(have - want).max() > 0  # padded rows are zeros, or payloads of half precision
        assert max(relative_errors(stored, have, want)) < 0.02
        request["valid"][0, 1] = 0
        assert_identical(after.run(None, request), before.run(None, request))


def test_a_bundle_knows_its_mask(masked):
    _, bundle = masked("FLOAT")
    assert mask_of(ir.load(bundle / "model.onnx")) == "valid"


def test_bench_reads_the_data_by_the_bundles_mask(masked, tmp_path):
    model, bundle = masked()
    report = onnx_memo.bench(model, bundle, tmp_path / "data.npz", rounds=1)
    assert report.hit_rate == 1.0
    told = ("the decision is which of 3 inputs", "of 3 inputs of the sample the nearest other is")
    assert len(report.notes) == 2
    assert all(note.startswith(start) for note, start in zip(report.notes, told, strict=True))


def test_text_fills_the_mask_whatever_it_is_called(masked, tmp_path, tokenizer):
    model, _ = masked("BOOL")
    (tmp_path / "data.txt").write_text("a b c\nd e\n")
    made = onnx_memo.optimize(model, tmp_path / "data.txt", tmp_path / "of_text", tokenizer=tokenizer)
    assert (made.manifest.entries, made.manifest.tokens) == (2, 7)


def test_the_command_line_takes_the_users_word(cli, masked, tmp_path):
    model, _ = masked()
    line = ("optimize", model, "--data", tmp_path / "data.npz", "-o", tmp_path / "b", "--json")
    assert cli(*line, "--mask", "valid").code == 0
    refused = cli("inspect", model, "--mask", "pad")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "has no input 'pad'" in refused.err
    assert "padding mask: 'valid'" in cli("inspect", model).out
    told = json.loads(cli("inspect", model, "--mask", "valid", "--json").out)
    assert (told["notes"], {site["mask"] for site in told["sites"]}) == ([], {"valid"})
