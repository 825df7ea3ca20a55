"""Exports of a fixed length, or of fixed sizes alone: requests come padded and are reused by real tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support import (
    LEVELS,
    Arrays,
    assert_identical,
    changed,
    fix_sizes,
    fixture,
    join,
    memoized,
    node_named,
    original,
    random_samples,
    relative_errors,
    write_samples,
)
from support_rows import TINY, Built, build, open_pair

import onnx_memo
from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import Samples, model_inputs
from onnx_memo.errors import MemoError
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.levels.rows import blueprint as rows_blueprint
from onnx_memo.levels.sites.capture import capture
from onnx_memo.levels.sites.observe import Observer
from onnx_memo.store.budget import input_means

LENGTH = 14
TOKENS = (3, 5, 9, 9, LENGTH)
TOLERANCE = 0.003


def fixed(name: str, folder: Path, batch: int | None = None) -> Path:
    return changed(name, folder / f"{name}.onnx", lambda model: fix_sizes(model, LENGTH, batch))


def requests_of(name: str, lengths=TOKENS, seed: int = 1) -> list[Arrays]:
    samples = random_samples(original(fixture(name)), lengths, seed)
    return [join([sample], padded=LENGTH) for sample in samples]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    made: dict[tuple[str, int | None, str], tuple[Path, Path]] = {}

    def make(name: str, batch: int | None, level: str) -> tuple[Path, Path]:
        key = name, batch, level
        if key not in made:
            folder = tmp_path_factory.mktemp("fixed")
            model, data = fixed(name, folder, batch), write_samples(folder / "data.npz", requests_of(name))
            made[key] = model, onnx_memo.optimize(model, data, folder / "bundle", level=level).path
        return made[key]

    return make


@pytest.mark.parametrize(("batch", "level"), [*((None, level) for level in (*LEVELS, "rows")), (1, "rows")])
@pytest.mark.parametrize("name", ["bert", "bert_dynamo", "gpt2"])
def test_a_padded_repeat_is_reused_and_nothing_else(bundles, name, batch, level, mode):
    model, bundle = bundles(name, batch, level)
    before, after = original(model), memoized(bundle, mode)
    for request in requests_of(name):
        want, have = before.run(None, request)[0], after.run(None, request)[0]
        padded = not request["attention_mask"].all()
        assert padded or level == "rows" or not np.array_equal(have, want)  # half precision, or zeros
        assert max(relative_errors(request, have, want)) <= TOLERANCE
        # The same tokens, all of them real: their padding is not taken for what was stored.
        if padded:
            whole = request | {"attention_mask": np.ones_like(request["attention_mask"])}
            assert_identical(after.run(None, whole), before.run(None, whole))
    for request in requests_of(name, (1, 5, 9, LENGTH), seed=1000):
        assert_identical(after.run(None, request), before.run(None, request))


@pytest.mark.parametrize("batch", [None, 1])
@pytest.mark.parametrize("name", ["bert", "bert_dynamo", "gpt2", "llama"])
def test_where_all_real_rows_run_the_original_is_met(tmp_path, name, batch, mode, monkeypatch):
    monkeypatch.setattr(rows_blueprint, "LIMIT", 2.0)
    model = fixed(name, tmp_path, batch)
    build(model, requests_of(name), tmp_path / "bundle")
    pair = open_pair(Built(tmp_path / "bundle", model, []), mode)
    for length, near in zip(TOKENS, requests_of(name), strict=True):
        near["input_ids"][0, 0] = (near["input_ids"][0, 0] + 1) % 64
        answer, want = pair.ask(near, TINY), pair.want(near)
        assert answer.hit
        assert answer.rows.tolist() == list(range(length))
        assert np.abs(answer.outputs[0] - want)[0, :length].max() <= 1e-4 * np.abs(want).max()
        assert_identical(pair.ask(near, 0.0).outputs, pair.before.run(None, near))


def test_a_fixed_batch_allows_rows_alone(tmp_path):
    """At other levels ONNX Runtime fuses across the cuts: a miss is not the original's to the last bit."""
    model, data = fixed("bert", tmp_path, 1), write_samples(tmp_path / "data.npz", requests_of("bert"))
    told = onnx_memo.optimize(model, data, tmp_path / "bundle").manifest
    assert [site.level for site in told.sites] == ["rows"]
    with pytest.raises(MemoError, match=r"fixes the batch to one.*; try --level auto"):
        onnx_memo.optimize(model, data, tmp_path / "none", level="output")
    assert {site.levels for site in onnx_memo.inspect(model).sites} == {()}


def test_a_fixed_batch_whose_rows_cannot_be_run_reuses_repeats(tmp_path):
    def change(model: ir.Model) -> None:
        fix_sizes(model, LENGTH, 1)
        masked = node_named(model, "/encoder/layer.0/attention/self/Add")
        axis = ir.node("Constant", [], {"value_int": 2})  # of the rows that ask
        bent = ir.node("CumSum", [masked.inputs[0], axis.outputs[0]])
        axis.outputs[0].name, bent.outputs[0].name = "axis", "bent"
        masked.replace_input_with(0, bent.outputs[0])
        model.graph.insert_before(masked, [axis, bent])

    model = changed("bert", tmp_path / "model.onnx", change)
    data = write_samples(tmp_path / "data.npz", requests_of("bert"))
    told = onnx_memo.optimize(model, data, tmp_path / "bundle").manifest
    assert [(site.level, site.threshold) for site in told.sites] == [("rows", 0.0)]
    with pytest.raises(MemoError, match="CumSum"):
        onnx_memo.optimize(model, data, tmp_path / "none", level="rows", tolerance=0.1)


def samples_of(model: Path, requests: list[Arrays], folder: Path) -> Samples:
    return read_samples(write_samples(folder / "data.npz", requests), model_inputs(OpenedModel(model)), None)


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_kept_is_what_a_free_length_gives(tmp_path, level):
    """Means, payloads and lengths, by all ways that read them."""
    kept = []
    for folder, model in ((tmp_path / "free", fixture("bert")), (tmp_path / "fixed", None)):
        folder.mkdir()
        model = model or fixed("bert", folder)
        opened, samples = OpenedModel(model), samples_of(model, requests_of("bert"), folder)
        sites = opened.findings.sites
        captured = capture(opened, sites, level, samples, folder, lambda: None)
        means, lengths = input_means(opened, sites[1], samples, lambda: None)
        seen = [Observer(opened, sites).run_all(feeds) for feeds in samples.arrays]
        assert captured.lengths.tolist() == lengths.tolist() == [n for *_, n in seen] == list(TOKENS)
        observed = np.stack([by_site[sites[1].name] for _, by_site, _ in seen])
        payloads = [np.fromfile(captured.payload(site), np.float16) for site in sites]
        kept.append([captured.means(sites[1]), means, observed, *payloads, captured.sketches(sites[0])])
    for have, want in zip(kept[1], kept[0], strict=True):
        np.testing.assert_allclose(have, want, atol=2e-2 if have.dtype == np.float16 else 1e-2)
