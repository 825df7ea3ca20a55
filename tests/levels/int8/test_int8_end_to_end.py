"""From a model to a bundle in 8 bits, and what all commands say of it: nothing is stored, nothing reused."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support import (
    assert_identical,
    changed,
    copied,
    fixture,
    join,
    memoized,
    mixing_rows,
    original,
    raced,
    random_samples,
    relative_errors,
    scoring,
    variants,
    write_samples,
)
from support_precision import exact_products, never_exact

import onnx_memo
from onnx_memo.errors import MemoError
from onnx_memo.levels.int8 import propose
from onnx_memo.levels.ways import NothingPays
from onnx_memo.proof.measure import Measure
from onnx_memo.store.data import memo_data

TOLERANCE = 0.1

pytestmark = pytest.mark.skipif(
    not exact_products("native" if onnx_memo.library_path() else "stock"),
    reason="products of bytes are not exact on this processor, and the native library is not built",
)


@dataclass(frozen=True)
class MadeInt8:
    """A bundle, and what it was made from."""

    result: onnx_memo.Result
    data: Path

    @property
    def bundle(self) -> Path:
        return self.result.path


def let_everything_pay(patch: pytest.MonkeyPatch) -> None:
    """Decisions rest on timings, tests must not."""
    for name, module in list(sys.modules.items()):
        if name.startswith("onnx_memo.") and hasattr(module, "PAYS"):
            patch.setattr(module, "PAYS", 1e9)


@pytest.fixture(scope="module")
def made_int8(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MadeInt8]:
    """Made once, and never changed."""
    folder = tmp_path_factory.mktemp("int8")
    data = write_samples(folder / "data.npz", variants(240, seed=1, changes=8))
    with pytest.MonkeyPatch.context() as patch:
        let_everything_pay(patch)
        yield MadeInt8(make(folder, data), data)


def make(folder: Path, data: Path, **options) -> onnx_memo.Result:
    options = {"tolerance": TOLERANCE, "level": "int8", "metric": "relative"} | options
    model = options.pop("model", fixture("bert"))
    return onnx_memo.optimize(model, data, folder / "bundle", **options)


# ---- The bundle


def test_the_manifest_has_no_entries_and_the_promise(made_int8):
    manifest = made_int8.result.manifest
    assert manifest.entries == 0
    (guard,) = manifest.sites
    assert (guard.name, guard.level, guard.heads, guard.width) == ("encoder", "int8", 4, 32)
    told = json.loads((made_int8.bundle / "manifest.json").read_text())
    assert told["entries"] == 0
    assert manifest.predicted["hit_rate"] == 0
    assert manifest.promised is not None
    assert (manifest.promised.metric, manifest.promised.tolerance) == ("relative", TOLERANCE)


def test_unseen_requests_keep_the_tolerance_and_are_not_the_original(made_int8, mode):
    if not exact_products(mode):
        pytest.skip("the original runs")
    before, after = original(fixture("bert")), memoized(made_int8.bundle, mode)
    for request in [*variants(40, seed=2, changes=8), join(variants(5, seed=3), padded=24)]:
        (have,), (want,) = after.run(None, request), before.run(None, request)
        errors = relative_errors(request, have, want)
        assert 0 < max(errors) <= TOLERANCE


def test_at_strictness_0_the_original_runs(made_int8, mode):
    after = memoized(made_int8.bundle, mode)
    for request in variants(10, seed=4):
        extra = {"memo_strictness": np.asarray(0, np.float32)}
        assert_identical(after.run(None, request | extra), original(fixture("bert")).run(None, request))


def test_memo_data_holds_weights_alone(made_int8):
    """Of 12 products six tensors each, none of which takes more than a page, or grows with the sample."""
    model = ir.load(made_int8.bundle / "model.onnx")
    stored = {name for name in model.graph.initializers if name.startswith("memo/int8/")}
    parts = ("packed", "sums", "scales", "bias", "channels", "apart")
    assert stored == {f"memo/int8/{number}.{part}" for number in range(12) for part in parts}
    assert memo_data(made_int8.bundle).stat().st_size == 72 * 4096


def test_the_report_says_that_nothing_is_reused(made_int8):
    page = (made_int8.bundle / "report.html").read_text()
    assert "<svg" in page
    assert "nothing is reused" in page


def test_the_same_sample_gives_the_same_memo_data(made_int8, tmp_path, monkeypatch):
    let_everything_pay(monkeypatch)
    again = make(tmp_path, made_int8.data)
    assert memo_data(again.path).name == memo_data(made_int8.bundle).name


@pytest.mark.usefixtures("everything_pays")
def test_a_model_of_scores_keeps_their_order(tmp_path, mode):
    if not exact_products(mode):
        pytest.skip("the original runs")
    model = changed("bert", tmp_path / "model.onnx", scoring)
    data = write_samples(tmp_path / "data.npz", variants(240, seed=1, changes=8))
    options = {"model": model, "metric": "order", "tolerance": 0.2}
    result = make(tmp_path, data, **options)
    after, before = memoized(result.path, mode), original(model)
    for request in variants(10, seed=5, changes=8):
        (have,), (want,) = after.run(None, request), before.run(None, request)
        assert 0 < np.abs(have - want).max() < 0.2


def in_stock(monkeypatch: pytest.MonkeyPatch, steps: int, ratios: tuple[float, float]) -> None:
    """No native library. Coarse products have so many steps, and take the first ratio, others the second."""
    times = iter(ratios)
    monkeypatch.setattr("onnx_memo.precision.whole.library_path", lambda: None)
    monkeypatch.setattr("onnx_memo.precision.nodes.HALF", steps)
    monkeypatch.setattr(propose, "race", lambda *_: raced(next(times)))


def is_coarse(bundle: Path) -> bool:
    operators = {node.op_type for node in ir.load(bundle / "model.onnx").graph.all_nodes()}
    assert "MemoSelfAttention" in operators
    return "MemoProduct" not in operators


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.parametrize(
    ("steps", "ratios", "coarse"), [(127, (0.5, 0.6), True), (3, (0.5, 0.6), False), (127, (0.7, 0.6), False)]
)
def test_without_the_native_library_products_are_as_coarse_as_pays_and_the_tolerance_allows(
    made_int8, tmp_path, monkeypatch, steps, ratios, coarse
):
    in_stock(monkeypatch, steps, ratios)
    result = make(tmp_path, made_int8.data)
    assert is_coarse(result.path) is coarse
    if exact_products("stock"):
        worst = onnx_memo.bench(fixture("bert"), result.path, made_int8.data, rounds=1, native=False)
        assert 0 < worst.outputs["last_hidden_state"]["relative"].worst <= TOLERANCE


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.skipif(not exact_products("stock"), reason="the original runs")
def test_coarse_products_that_are_not_proven_leave_the_others(made_int8, tmp_path, monkeypatch):
    """The fit part is taken to allow them, and the held-out part does not."""
    in_stock(monkeypatch, 3, (0.5, 0.6))
    monkeypatch.setattr(Measure, "likely", lambda *_: True)
    assert not is_coarse(make(tmp_path, made_int8.data).path)


def with_ways(monkeypatch: pytest.MonkeyPatch, ratios: tuple[float, ...]) -> None:
    """Only ways with channels apart, which take so much of the original's time, from fast to exact."""
    times = iter(ratios)
    monkeypatch.setattr("onnx_memo.precision.whole.library_path", lambda: "library.so")
    monkeypatch.setattr(propose, "race", lambda *_: raced(next(times)))


def channels_apart(bundle: Path) -> int:
    (size,) = ir.load(bundle / "model.onnx").graph.initializers["memo/int8/0.channels"].shape
    return int(size)


def answers(monkeypatch: pytest.MonkeyPatch, method: str, *given: object) -> None:
    """What the measure says, one time after the other, and the last of it ever after."""
    said = iter(given)
    monkeypatch.setattr(Measure, method, lambda *_: next(said, given[-1]))


@pytest.mark.usefixtures("everything_pays")
def test_a_way_that_no_request_breaks_is_the_last_that_is_rounded(made_int8, tmp_path, monkeypatch):
    with_ways(monkeypatch, (0.5,))
    assert channels_apart(make(tmp_path, made_int8.data).path) == 8


@pytest.mark.usefixtures("everything_pays")
def test_where_the_fit_part_does_not_keep_the_tolerance_a_more_exact_way_is_taken(
    made_int8, tmp_path, monkeypatch
):
    with_ways(monkeypatch, (0.5, 0.6))
    answers(monkeypatch, "likely", False, True)
    assert channels_apart(make(tmp_path, made_int8.data).path) == 32


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.parametrize(("p_values", "channels"), [((0.0, 0.0), 8), ((0.0, 1.0), 32)])
def test_where_requests_are_outside_a_more_exact_way_is_proven_first(
    made_int8, tmp_path, monkeypatch, p_values, channels
):
    """So it is left where the held-out part does not prove the fast one."""
    with_ways(monkeypatch, (0.5, 0.6))
    monkeypatch.setattr(propose, "outside", lambda errors, _: np.arange(len(errors)) == 0)
    answers(monkeypatch, "p_value", *p_values)
    assert channels_apart(make(tmp_path, made_int8.data).path) == channels


@pytest.mark.usefixtures("everything_pays")
def test_a_more_exact_way_that_is_faster_too_is_the_only_one_to_be_proven(made_int8, tmp_path, monkeypatch):
    with_ways(monkeypatch, (0.6, 0.5))
    monkeypatch.setattr(propose, "outside", lambda errors, _: np.arange(len(errors)) == 0)
    assert channels_apart(make(tmp_path, made_int8.data).path) == 32


# ---- The commands


def test_inspect_says_that_nothing_is_reused(made_int8, cli):
    shown = cli("inspect", made_int8.bundle)
    assert shown.code == 0, shown.err
    assert "nothing is reused: every request runs the guarded layers with products in 8 bits" in shown.out
    told = json.loads(cli("inspect", made_int8.bundle, "--json").out)
    assert told["entries"] == 0


@pytest.mark.parametrize("options", [[], ["--stock"]])
def test_bench_says_that_nothing_is_reused(made_int8, cli, options):
    arguments = ["bench", fixture("bert"), made_int8.bundle, "--data", made_int8.data, "--rounds", 1]
    shown = cli(*arguments, *options)
    assert shown.code == 0, shown.err
    told = json.loads(cli(*arguments, *options, "--json").out)
    assert told["hit_rate"] == 0
    assert told["sites"] == {"encoder": 0}


def test_bench_measures_what_the_form_does(made_int8):
    native = onnx_memo.library_path() is not None
    report = onnx_memo.bench(fixture("bert"), made_int8.bundle, made_int8.data, rounds=1, native=native)
    assert report.hit_rate == 0
    assert 0 < report.outputs["last_hidden_state"]["relative"].worst <= TOLERANCE
    assert report.predicted == made_int8.result.manifest.predicted


def test_explain_says_that_nothing_is_reused(made_int8, cli, tmp_path):
    picture = tmp_path / "rows.svg"
    arguments = ["explain", made_int8.bundle, "--data", made_int8.data]
    shown = cli(*arguments, "--line", 3, "--sample", made_int8.data, "--picture", picture)
    assert shown.code == 0, shown.err
    assert "in 8 bits" in shown.out
    assert "nothing is reused: the guarded layers run with products in 8 bits" in shown.out
    assert "<svg" in picture.read_text()
    one = onnx_memo.explain(made_int8.bundle, data=made_int8.data, line=3)
    assert (one.level, one.outcome, one.reused) == ("int8", "in 8 bits", False)
    assert (one.lookups, one.rows) == ((), None)
    assert 0 < one.error <= TOLERANCE


def test_explain_names_the_requests_that_come_out_worst(made_int8, cli):
    shown = cli("explain", made_int8.bundle, "--data", made_int8.data)
    assert shown.code == 0, shown.err
    assert "240 requests: 240 in 8 bits" in shown.out
    assert "the largest error first" in " ".join(shown.out.split())
    assert "the original ran" not in shown.out
    assert "230 more are not listed" in shown.out
    told = json.loads(cli("explain", made_int8.bundle, "--data", made_int8.data, "--json").out)
    errors = [one["error"] for one in told["rounded"]]
    assert errors == sorted(errors, reverse=True)
    assert len(errors) == 10 and told["reused"] == told["missed"] == []


@pytest.mark.skipif(not exact_products("stock"), reason="the original runs")
def test_explain_says_so_where_products_of_bytes_are_not_exact(made_int8, tmp_path):
    bundle = copied(made_int8.bundle, tmp_path / "bundle")
    never_exact(bundle)
    one = onnx_memo.explain(bundle, data=made_int8.data, line=3, native=False)
    assert (one.outcome, one.error) == ("no exact products in 8 bits", 0)
    assert "the original runs" in one.reason


def test_compare_judges_the_bundle_as_any_model(made_int8, cli):
    shown = cli("compare", fixture("bert"), made_int8.bundle, "--data", made_int8.data)
    assert shown.code == 0, shown.err


# ---- What is refused


def test_without_a_tolerance_it_is_refused_in_one_line(made_int8, tmp_path, cli):
    arguments = ["optimize", fixture("bert"), "--data", made_int8.data, "-o", tmp_path / "b"]
    refused = cli(*arguments, "--level", "int8")
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert "the level 'int8' rounds: say with --tolerance or --keep how wrong an answer may be" in refused.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("everything_pays")
def test_a_tolerance_that_is_too_strict_writes_nothing(made_int8, tmp_path):
    with pytest.raises(NothingPays, match="in 8 bits the fit part does not keep the tolerance") as refused:
        make(tmp_path, made_int8.data, tolerance=1e-6)
    assert list(tmp_path.iterdir()) == []
    *_, fast, exact = refused.value.alternatives
    assert (fast.name, fast.level, fast.hit_rate) == ("int8", "int8", 0)
    assert exact.name == "int8, 32 channels in floats"
    assert 1e-6 < exact.error < fast.error < TOLERANCE


def test_where_no_time_is_saved_nothing_is_written(made_int8, tmp_path, monkeypatch):
    monkeypatch.setattr(propose, "PAYS", 0.0)
    with pytest.raises(NothingPays, match=r"the fit part keeps the tolerance, in \d"):
        make(tmp_path, made_int8.data)
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_an_encoder_says_why(made_int8, tmp_path):
    with pytest.raises(MemoError, match=r"does not allow the level 'int8': .*; try --level auto"):
        make(tmp_path, made_int8.data, model=changed("bert", tmp_path / "model.onnx", mixing_rows))


@pytest.mark.usefixtures("everything_pays")
def test_attention_that_is_no_core_runs_as_it_is(tmp_path, mode):
    """Of DeBERTa all products with weights run in 8 bits; no rows of it can be run by themselves."""
    if not exact_products(mode):
        pytest.skip("the original runs")
    samples = [{name: one[name] for name in ("input_ids", "attention_mask")} for one in variants(240, seed=1)]
    data = write_samples(tmp_path / "data.npz", samples)
    result = make(tmp_path, data, model=fixture("deberta_v2"))
    assert result.manifest.sites[0].level == "int8"
    before, after = original(fixture("deberta_v2")), memoized(result.path, mode)
    batch = join(random_samples(before, [3, 9, 20], seed=2))
    for request in (*samples[:3], batch, join(samples[:1], padded=20)):
        (have,), (want,) = after.run(None, request), before.run(None, request)
        assert 0 < max(relative_errors(request, have, want)) <= 2 * TOLERANCE


# ---- Damage


@pytest.mark.parametrize("harm", ["bytes changed", "cut off", "gone", "of another level"])
def test_a_damaged_bundle_is_told_in_one_line(made_int8, tmp_path, cli, harm):
    bundle = copied(made_int8.bundle, tmp_path / "bundle")
    data, manifest = memo_data(bundle), bundle / "manifest.json"
    content = data.read_bytes()
    if harm == "bytes changed":
        data.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    elif harm == "cut off":
        data.write_bytes(content[:-1])
    elif harm == "gone":
        data.unlink()
    else:
        manifest.write_text(manifest.read_text().replace('"int8"', '"int4"'))
    for arguments in (
        ["inspect", bundle],
        ["bench", fixture("bert"), bundle, "--data", made_int8.data, "--rounds", 1],
    ):
        refused = cli(*arguments)
        assert refused.code == 2
        assert refused.err.startswith("onnx-memo: ")
        assert refused.err.count("\n") == 1
