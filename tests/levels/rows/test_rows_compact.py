"""A bundle at the level `rows` without the original's weights: rows and misses run in 8 bits."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest
from support import (
    copied,
    fixture,
    join,
    random_samples,
    relative_errors,
    variants,
    write_samples,
)
from support import original as original_session
from support_precision import exact_products, never_exact
from support_rows import Built, RowsPair, open_pair, opened

import onnx_memo
from onnx_memo.errors import MemoError
from onnx_memo.levels.rows import propose
from onnx_memo.levels.rows.layout import rows_footprint
from onnx_memo.levels.ways import NothingPays
from onnx_memo.precision.tables import Tables, find_tables
from onnx_memo.store.data import ALIGNMENT, WEIGHTS, memo_data
from onnx_memo.verify import Unfit

TOLERANCE = 0.1
ENCODERS = ("bert", "bert_dynamo", "distilbert")
SMALL = 512  # numbers of a table of the fixtures that counts as large
STORED = variants(240, seed=1)

pytestmark = [
    pytest.mark.skipif(onnx_memo.library_path() is None, reason="the native library is not built"),
    pytest.mark.usefixtures("everything_pays", "small_tables"),
]


@pytest.fixture
def small_tables(monkeypatch):
    monkeypatch.setattr("onnx_memo.precision.tables.LEAST", SMALL)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("data") / "data.npz", STORED)


def make(data: Path, folder: Path, name: str = "bert", **options) -> onnx_memo.Result:
    options = {
        "tolerance": TOLERANCE,
        "metric": "relative",
        "level": "rows",
        "compact": True,
    } | options
    return onnx_memo.optimize(fixture(name), data, folder / "bundle", **options)


@pytest.fixture(scope="module", params=ENCODERS)
def made(request, data, tmp_path_factory) -> Built:
    """Made once for each model, and never changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onnx_memo.precision.tables.LEAST", SMALL)
        patch.setattr("onnx_memo.pipeline.PAYS", 1e9)
        patch.setattr("onnx_memo.levels.rows.search.PAYS", 1e9)
        bundle = make(data, tmp_path_factory.mktemp(request.param), request.param).path
    names = {value.name for value in original_session(fixture(request.param)).get_inputs()}
    samples = [{name: array for name, array in one.items() if name in names} for one in STORED]
    return Built(bundle, fixture(request.param), samples)


@pytest.fixture
def pair(made, mode) -> RowsPair:
    if not exact_products(mode):
        pytest.skip("products of bytes are not exact on this processor")
    return open_pair(made, mode)


def of(pair: RowsPair, requests: list) -> list:
    """The requests without what the model does not take."""
    return [{name: request[name] for name in pair.stored[0]} for request in requests]


def error(pair: RowsPair, request: dict, strictness: float = 1.0) -> float:
    """The relative L2 error of an answer, the worst of the batch."""
    return max(relative_errors(request, pair.ask(request, strictness).outputs[0], pair.want(request)))


# ---- What is left


def test_no_weight_of_the_original_is_left(made):
    """Neither in the model nor in any file beside it, but what is smaller than a bias."""
    weights = [value.const_value.numpy() for value in ir.load(made.model).graph.initializers.values()]
    large = [array for array in weights if array.dtype == np.float32 and array.size >= SMALL]
    assert len(large) > 10
    for file in made.bundle.iterdir():
        content = file.read_bytes()
        for weight in large:
            parts = (weight, weight.T) if weight.ndim == 2 else (weight,)
            assert not any(np.ascontiguousarray(part).tobytes() in content for part in parts), file.name
    assert not list(made.bundle.glob(f"{WEIGHTS}-*"))
    model = ir.load(made.bundle / "model.onnx")
    graphs = (model.graph, *model.graph.subgraphs())
    held = [value.const_value for graph in graphs for value in graph.initializers.values()]
    inside = [tensor for tensor in held if tensor is not None and not isinstance(tensor, ir.ExternalTensor)]
    assert max(tensor.size for tensor in inside) < SMALL


def test_the_manifest_says_so(made):
    manifest = onnx_memo.store.bundle.read_bundle(made.bundle)
    assert manifest.compact
    assert [site.level for site in manifest.sites] == ["rows"]
    assert manifest.entries > 100


# ---- What it answers


def test_stored_inputs_get_the_originals_answers(pair):
    """Those of the store and the fit part; the held-out ones are not stored."""
    repeats = [one for one in pair.stored[:40] if not len(pair.ask(one).rows) and pair.ask(one).hit]
    assert len(repeats) >= 20
    assert max(error(pair, one) for one in repeats) <= 1e-6


def test_near_repeats_keep_the_tolerance_and_run_some_rows(pair):
    answers = [(request, pair.ask(request)) for request in of(pair, variants(60, seed=2))]
    errors = [
        max(relative_errors(request, answer.outputs[0], pair.want(request))) for request, answer in answers
    ]
    assert np.mean(np.asarray(errors) <= TOLERANCE) >= 0.95
    assert any(answer.hit and 0 < answer.ran < 16 for _, answer in answers)
    assert max(errors) > 0


def test_what_reuses_nothing_runs_in_8_bits(pair):
    unlike = of(pair, random_samples(pair.before, [5, 9, 16, 23], seed=3))
    for request in [*unlike, join(unlike)]:
        assert not pair.ask(request).hit
        assert 0 < error(pair, request) <= TOLERANCE


def test_strictness_0_reuses_nothing_and_runs_in_8_bits(pair):
    some = [*pair.stored[:3], *of(pair, variants(3, seed=2))]
    for request in [*some, join(some)]:
        for strictness in (0.0, -1.0, np.nan):
            assert not pair.ask(request, strictness).hit
            assert 0 < error(pair, request, strictness) <= TOLERANCE


def test_what_runs_at_strictness_0_is_exact_on_every_processor(made):
    """Standard nodes, and of each product two halves, whose sums 16 bits hold."""
    nodes = {node.name: node for node in ir.load(made.bundle / "model.onnx").graph}
    branch = nodes["memo/encoder/if"].attributes["else_branch"].as_graph()
    kinds = Counter(node.op_type for node in branch)
    assert not [kind for kind in kinds if kind.startswith("MemoProduct")]
    layers = kinds["MemoSelfAttention"]
    assert layers > 0
    assert kinds["MatMulInteger"] == 2 * 4 * layers  # what attention reads, its output, and two more


@pytest.mark.parametrize("compact", [True, False])
def test_where_products_are_not_exact_no_row_runs_with_them(data, tmp_path, compact):
    """Repeats are reused all the same; all else runs as at the strictness 0."""
    bundle = copied(make(data, tmp_path, compact=compact).path, tmp_path / "copy")
    never_exact(bundle)
    pair = open_pair(Built(bundle, fixture("bert"), STORED), "stock")
    assert sum(pair.ask(one).hit for one in pair.stored[:20]) >= 10
    for request in variants(20, seed=2):
        answer = pair.ask(request)
        assert not answer.ran
        if not answer.hit:
            np.testing.assert_array_equal(answer.outputs[0], pair.ask(request, 0.0).outputs[0])
    missed = next(request for request in variants(20, seed=2) if not pair.ask(request).hit)
    if not compact:
        one = onnx_memo.explain(bundle, arrays=missed, native=False)
        assert (one.outcome, one.error) == ("no exact products in 8 bits", 0)
        assert one.reason.endswith("the original runs")


def test_repeats_are_known_although_their_tables_are_rounded(data, tmp_path, monkeypatch):
    """By more than a row may change (EPSILON) before it runs: what is stored is rounded as well."""
    monkeypatch.setattr("onnx_memo.precision.tables.MOST", 7)
    pair = open_pair(Built(make(data, tmp_path, tolerance=0.3).path, fixture("bert"), STORED), "native")
    repeats = [one for one in pair.stored[:40] if pair.ask(one).hit and not pair.ask(one).ran]
    assert len(repeats) >= 20
    assert max(error(pair, one) for one in repeats) <= 1e-6


# ---- How large it is


def test_the_tables_count_in_what_the_memo_data_may_take(data, tmp_path):
    tables = find_tables(opened(fixture("bert")))
    lengths = np.full(10, 16)
    without = rows_footprint(opened(fixture("bert"))).total(lengths)
    assert rows_footprint(opened(fixture("bert")), tables).total(lengths) == without + tables.nbytes
    result = make(data, tmp_path, max_bytes=without + tables.nbytes)
    assert 1 <= result.manifest.entries < 40
    assert memo_data(result.path).stat().st_size <= without + tables.nbytes
    assert any("--max-bytes is" in note for note in result.manifest.notes)


def test_what_tables_take_is_never_more_than_is_said():
    """Each tensor begins on a page."""
    values = [
        ir.Value(name=str(rows), const_value=ir.tensor(np.ones((rows, 4), np.float32))) for rows in (9, 5000)
    ]
    tables = Tables(dict.fromkeys(values, ()))
    sizes = [tensor.nbytes for tensor in tables.tensors()]
    pages = sum(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes)
    assert pages <= tables.nbytes <= sum(sizes) + ALIGNMENT * len(sizes)


def test_what_the_memo_data_may_take_is_not_enough_without_the_tables(data, tmp_path):
    least = rows_footprint(opened(fixture("bert"))).total(np.full(1, 16))
    with pytest.raises(MemoError, match=r"does not hold a single input: give at least \d+"):
        make(data, tmp_path, max_bytes=least)


# ---- What is said, and what is refused


def test_it_says_so(data, tmp_path, cli):
    options = ["--data", data, "-o", tmp_path / "bundle", "--tolerance", TOLERANCE, "--metric", "relative"]
    shown = cli("optimize", fixture("bert"), *options, "--level", "rows", "--compact")
    assert shown.code == 0, shown.err
    told = " ".join(shown.out.split())
    assert "compact: the original's weights are left out, so that requests that reuse nothing run in" in told
    assert "at memo_strictness 0 all do, by standard nodes" in told
    assert "with nothing reused, in 8 bits at every memo_strictness" in told
    assert "the original's, bit for bit" not in told
    refused = cli("explain", tmp_path / "bundle", "--data", data, "--line", 3)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "is compact: without the original's weights" in refused.err
    page = (tmp_path / "bundle" / "report.html").read_text()
    assert "0" not in re.findall(r'data-label="strictness">([^<]*)<', page)
    bench = cli("bench", fixture("bert"), tmp_path / "bundle", "--data", data, "--rounds", 1)
    assert bench.code == 0, bench.err
    assert "'onnx-memo explain" not in bench.out


def test_auto_takes_it(data, tmp_path):
    manifest = make(data, tmp_path, level="auto").manifest
    assert (manifest.compact, [site.level for site in manifest.sites]) == (True, ["rows"])


@pytest.mark.parametrize("level", ["auto", "rows"])
def test_without_the_native_library_it_is_not_taken(data, tmp_path, monkeypatch, level):
    """There rows run with the original's weights, or others of their own."""
    monkeypatch.setattr("onnx_memo.levels.rows.level.library_path", lambda: None)
    why = "--compact leaves out the weights that rows run with where no native library is"
    if level == "rows":
        with pytest.raises(MemoError, match=f"does not allow the level 'rows': {why}"):
            make(data, tmp_path)
        return
    manifest = make(data, tmp_path, level="auto").manifest
    assert [site.level for site in manifest.sites] == ["int8"]
    assert f"the level 'rows' is not possible: {why}" in manifest.notes


def test_where_the_promise_has_no_room_for_8_bits_nothing_is_written(data, tmp_path, cli):
    options = ["--data", data, "-o", tmp_path / "bundle", "--tolerance", 1e-6, "--metric", "relative"]
    refused = cli("optimize", fixture("bert"), *options, "--compact")
    assert (refused.code, refused.err.count("\n")) == (3, 1)
    assert "rows: --compact leaves out the original, and with products in 8 bits" in refused.err
    assert "int8: " in refused.err
    assert not (tmp_path / "bundle").exists()


def test_nothing_that_needs_the_original_is_proven(data, tmp_path, monkeypatch):
    """Neither products of rows in floats, nor misses that run the original."""
    tried, prove = [], propose.prove

    def proved(goal, samples, original, settings, progress):
        tried.extend(settings)
        return prove(goal, samples, original, settings, progress)

    monkeypatch.setattr(propose, "prove", proved)
    made = make(data, tmp_path)
    assert tried and all(one.trial.rounds for one in tried)
    brief = SimpleNamespace(
        job=SimpleNamespace(compact=True), rounding=SimpleNamespace(wholes=lambda: iter(["whole"]))
    )
    assert [name for name, _ in propose.precisions(brief, None)] == ["int8"]
    assert made.manifest.compact
    monkeypatch.setattr(propose.RowsTrial, "race", lambda *arguments: pytest.fail("nothing else is tried"))
    monkeypatch.setattr(propose, "_misses_in_bytes", lambda *arguments: None)
    with pytest.raises(NothingPays, match="rows: --compact leaves out the original"):
        make(data, tmp_path / "other")


@pytest.mark.skipif(not exact_products("stock"), reason="only one of the ways runs on this processor")
def test_a_way_that_answers_otherwise_is_found(data, tmp_path, monkeypatch):
    """Although what is stored is answered without it."""
    from onnx_memo.operators.bodies.product import multiply_halves

    def wrong(b, steps, matrix, zero):
        return b.op("Mul", multiply_halves(b, steps, matrix, zero), b.const(1.2, np.float32))

    monkeypatch.setattr("onnx_memo.levels.whole.multiply_halves", wrong)
    with pytest.raises(Unfit, match=r"the two ways in which it runs in 8 bits are .* leave --compact out"):
        make(data, tmp_path)
    assert not (tmp_path / "bundle").exists()
