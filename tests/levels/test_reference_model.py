"""`--reference`: errors count from another model's answers; the model itself is what runs and is timed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnxruntime import quantization
from support import (
    assert_identical,
    changed,
    fix_sizes,
    fixture,
    input_named,
    memoized,
    nothing_left_in,
    original,
    raced,
    random_samples,
    relative_errors,
    variants,
    write_samples,
)
from support_precision import exact_products

import onnx_memo
from onnx_memo.advice import run
from onnx_memo.errors import MemoError
from onnx_memo.levels.rows.trial import RowsTrial
from onnx_memo.levels.ways import NothingPays
from onnx_memo.proof.measure import Measure
from onnx_memo.store.data import memo_data

BERT = fixture("bert")
LOOSE, TIGHT = 0.06, 0.03  # relative errors; of `int8` itself they are 0.02 to 0.04
MEASURED = {"metric": "relative", "reference": BERT}


@pytest.fixture(scope="module")
def int8(tmp_path_factory) -> Path:
    """BERT, dynamically quantized."""
    folder = tmp_path_factory.mktemp("quantized")
    copy = Path(shutil.copyfile(BERT, folder / "bert.onnx"))  # the quantizer writes beside what it reads
    path = folder / "int8.onnx"
    quantization.quantize_dynamic(copy, path, weight_type=quantization.QuantType.QInt8, per_channel=True)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_samples(tmp_path_factory.mktemp("data") / "data.npz", variants(240, seed=1))


@pytest.fixture(scope="module")
def made(tmp_path_factory, int8, data) -> onnx_memo.Result:
    """A bundle of the quantized model, made for what the other one gives; made once and never changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowsTrial, "race", lambda self, samples, original, strictness: raced(0.1))
        patch.setattr(sys.modules["onnx_memo.pipeline"], "PAYS", 1e9)
        folder = tmp_path_factory.mktemp("made")
        options = {"tolerance": LOOSE, "exact_misses": True}
        return onnx_memo.optimize(int8, data, folder / "bundle", **options, **MEASURED)


def errors_against(model: Path, session: ort.InferenceSession, count: int = 150) -> list[float]:
    """Of unseen requests, from what another model gives."""
    want = original(model)
    return [
        relative_errors(request, session.run(None, request)[0], want.run(None, request)[0])[0]
        for request in variants(count, seed=2)
    ]


# ---- What is promised and what runs


def test_answers_are_within_the_tolerance_of_the_reference(made, mode):
    errors = errors_against(BERT, memoized(made.path, mode))
    assert np.mean(np.asarray(errors) <= LOOSE) >= 0.95
    assert max(errors) > TIGHT


def test_what_reuses_nothing_runs_the_model_itself_and_has_its_error(made, int8, mode):
    before, after = original(int8), memoized(made.path, mode)
    for request in random_samples(before, [3, 7, 40], seed=9):
        (have,) = after.run(None, request)
        assert_identical([have], before.run(None, request))
        assert relative_errors(request, have, original(BERT).run(None, request)[0])[0] > 0


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.parametrize("options", [{"level": "rows"}, {"level": "output", "sites": "0"}])
def test_the_model_as_its_own_reference_changes_nothing(data, tmp_path, options):
    options = options | {"tolerance": 0.3, "metric": "relative"}
    bare, same = (
        onnx_memo.optimize(BERT, data, tmp_path / name, **options, reference=reference)
        for name, reference in (("bare", None), ("same", BERT))
    )
    assert bare.manifest.sites == same.manifest.sites
    assert memo_data(bare.path).name == memo_data(same.path).name


def coarse(model: ir.Model) -> None:
    """Weights with 5 bits after the point of their largest number."""
    for value in model.graph.initializers.values():
        numbers = value.const_value.numpy()
        if numbers.dtype == np.float32 and numbers.ndim == 2:
            step = max(float(np.abs(numbers).max()), 1e-9) / 32
            value.const_value = ir.tensor(
                (np.round(numbers / step) * step).astype(np.float32), name=value.name
            )


@pytest.mark.usefixtures("everything_pays")
def test_of_a_tolerance_the_models_own_error_takes_a_part(data, tmp_path):
    """So less is reused than by its own answers."""
    model = changed("bert", tmp_path / "coarse.onnx", coarse)
    tolerance = 1.3 * max(errors_against(BERT, original(model)))
    options = {"tolerance": tolerance, "metric": "relative", "level": "rows"}
    own, other = (
        onnx_memo.optimize(model, data, tmp_path / name, **options, reference=reference)
        for name, reference in (("own", None), ("other", BERT))
    )
    assert own.manifest.sites[0].threshold > other.manifest.sites[0].threshold
    assert own.predicted.hit_rate >= other.predicted.hit_rate


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.parametrize("level", ["output", "probs"])
def test_at_single_blocks_misses_count_with_the_models_own_error(data, tmp_path, level):
    model = changed("bert", tmp_path / "coarse.onnx", coarse)
    own = max(errors_against(BERT, original(model)))
    assert own > 0.01
    options = {"tolerance": 4 * own, "level": level, **MEASURED}
    result = onnx_memo.optimize(model, data, tmp_path / "bundle", **options)
    assert {site.level for site in result.manifest.sites} == {level}
    errors = errors_against(BERT, memoized(result.path, "stock"))
    assert np.mean(np.asarray(errors) <= 4 * own) >= 0.95
    page = (tmp_path / "bundle" / "report.html").read_text()
    assert "of the outputs of the reference, bert.onnx" in page
    with pytest.raises(NothingPays, match=r"coarse\.onnx' itself, with nothing reused, keeps"):
        onnx_memo.optimize(model, data, tmp_path / "other", **options | {"tolerance": own / 4})


MODE = "native" if onnx_memo.library_path() else "stock"
exact = pytest.mark.skipif(
    not exact_products(MODE),
    reason="products of bytes are not exact on this processor, and the native library is not built",
)


@exact
@pytest.mark.usefixtures("everything_pays")
def test_the_level_int8_is_judged_by_the_reference(int8, data, tmp_path):
    """Here the quantized model is the reference: what is 8 bits by itself is no nearer to it."""
    options = {"tolerance": 0.1, "metric": "relative", "level": "int8", "reference": int8}
    result = onnx_memo.optimize(BERT, data, tmp_path / "bundle", **options)
    errors = errors_against(int8, memoized(result.path, MODE))
    assert min(errors) > 0.01 and max(errors) < 0.1


@exact
@pytest.mark.usefixtures("everything_pays")
def test_the_level_int8_of_a_quantized_model_is_nearer_to_the_reference_than_that_is(int8, data, tmp_path):
    """It is made of its weights alone, also where the model itself is too far off."""
    share = np.mean(np.asarray(errors_against(BERT, original(int8))) <= TIGHT)
    assert share < 0.9
    options = {"tolerance": TIGHT, "level": "int8", **MEASURED}
    result = onnx_memo.optimize(int8, data, tmp_path / "bundle", **options)
    errors = errors_against(BERT, memoized(result.path, MODE))
    assert np.mean(np.asarray(errors) <= TIGHT) >= 0.95
    with pytest.raises(NothingPays, match=r"itself, .*; int8: with products in 8 bits the fit part does not"):
        onnx_memo.optimize(int8, data, tmp_path / "other", **options | {"tolerance": TIGHT / 3})


def test_without_a_reference_a_quantized_model_asks_for_it(int8, data, tmp_path):
    said = r"'int8\.onnx' is rounded itself: name with --reference the model in floats"
    with nothing_left_in(tmp_path), pytest.raises(NothingPays, match=said):
        onnx_memo.optimize(int8, data, tmp_path / "b", tolerance=0.001, level="int8")


@pytest.mark.usefixtures("everything_pays")
def test_decisions_are_the_references(int8, data, tmp_path):
    """What the nearest of its answers are."""
    options = {"keep": 0.6, "reference": BERT, "slack": 1.5, "level": "rows"}
    promised = onnx_memo.optimize(int8, data, tmp_path / "bundle", **options).manifest.promised
    assert (promised.metric, promised.tolerance, promised.reference) == ("neighbours", None, "bert.onnx")
    assert "60 % of the decisions (neighbours) stay as with the reference 'bert.onnx'" in str(promised)
    with pytest.raises(
        NothingPays, match=r"itself, with nothing reused, decides as .* does too seldom"
    ) as no:
        onnx_memo.optimize(int8, data, tmp_path / "other", **options | {"slack": 1.0, "keep": 0.95})
    assert "the nearest neighbour stays: " in str(no.value)


def test_where_the_model_itself_is_too_far_off_one_line_says_so_before_anything_is_tried(
    int8, data, tmp_path, cli, monkeypatch
):
    monkeypatch.setattr("onnx_memo.levels.rows.level.propose_rows", None)
    line = ["optimize", int8, "--data", data, "-o", tmp_path / "b", "--reference", BERT, "--level", "rows"]
    with nothing_left_in(tmp_path):
        outcome = cli(*line, "--metric", "relative", "--tolerance", TIGHT)
    assert (outcome.code, outcome.err.count("\n")) == (3, 1)
    assert f"'{int8}' itself, with nothing reused, keeps 7" in outcome.err
    assert f"% of the answers to the fit part within 0.03 of '{BERT}' (relative), too few" in outcome.err


def test_too_few_requests_are_not_blamed_on_the_model(tmp_path, data, monkeypatch):
    """Where so few requests could not prove it of a perfect model either."""
    monkeypatch.setattr(Measure, "likely", lambda *_: False)
    with pytest.raises(NothingPays) as nothing:
        onnx_memo.optimize(BERT, data, tmp_path / "b", tolerance=0.1, reference=BERT, level="rows")
    assert "itself" not in str(nothing.value)


# ---- What is said


def test_manifest_summary_and_json_name_the_reference(made, cli):
    promised = made.manifest.promised
    assert promised.reference == "bert.onnx"
    assert promised.reference_sha256 == sha256(BERT.read_bytes()).hexdigest()
    assert made.manifest.source == "int8.onnx"
    said = "95 % of the answers are within 0.06 of those of the reference 'bert.onnx' (relative)"
    assert said in " ".join(cli("inspect", made.path).out.split())
    told = json.loads(cli("inspect", made.path, "--json").out)
    assert told["promised"]["reference"] == "bert.onnx"


def test_the_report_names_it_and_at_strictness_0_has_the_models_own_errors(made):
    page = (made.path / "report.html").read_text()
    assert "of the outputs of the reference, bert.onnx" in page
    assert "of the original model's outputs" not in page
    row = page[page.index("Hit rate and error by strictness, in numbers") :]
    first = row[row.index("<tbody>") : row.index("</tr>", row.index("<tbody>"))]
    assert ">0</th>" in first
    assert ">0.0" in first, "a mean error, in place of none"


def test_explain_compares_with_the_model_and_so_says_nothing_of_the_tolerance(made, data, cli):
    shown = " ".join(cli("explain", made.path, "--data", data, "--line", 3).out.split())
    assert "within the tolerance" not in shown and "beyond the tolerance" not in shown
    assert "within 0.06 of those of the reference 'bert.onnx'" in shown


def test_bench_compares_answers_with_the_reference_if_it_is_named(made, int8, data, cli):
    line = ["bench", int8, made.path, "--data", data, "--rounds", 1]
    own, other = (json.loads(cli(*line, *more, "--json").out) for more in ([], ["--reference", BERT]))
    least, most = (one["outputs"]["last_hidden_state"]["relative"] for one in (own, other))
    assert least["mean"] < most["mean"] < LOOSE
    assert (own["reference"], other["reference"]) == (None, "bert.onnx")
    shown = " ".join(cli(*line, "--reference", BERT).out.split())
    assert "answers are compared with those of the reference 'bert.onnx', times with the original's" in shown


def test_advice_counts_from_the_reference_and_passes_it_on(int8, data, monkeypatch):
    monkeypatch.setattr(run, "chosen_of", lambda rungs, reason: (rungs[-1], "it is the last"))
    advice = onnx_memo.advise(int8, data, reference=BERT)
    assert f" --reference {BERT} " in advice.command
    assert "errors and decisions count from the answers of the reference 'bert.onnx'" in advice.notes
    names = [rung.name for rung in advice.rungs]
    assert "--tolerance 0.0005" not in names, "its own errors are as large"
    assert "--tolerance 0.01" in names
    said = "is not kept by the model itself, with nothing reused, against the reference"
    assert f"--keep 0.99 {said}" in advice.notes
    assert not any(note.startswith("--tolerance 0.01 ") for note in advice.notes)


def test_advice_to_reuse_literal_repeats_alone_has_no_options_of_promises(data, monkeypatch):
    """These would be refused."""
    monkeypatch.setattr(run, "chosen_of", lambda rungs, reason: (rungs[0], "it is the first"))
    monkeypatch.setattr(run, "ladder", lambda *rest, ladder=run.ladder: _exact(ladder(*rest)))
    command = onnx_memo.advise(BERT, data, reference=BERT, decision="neighbours").command
    assert "--reference" not in command and "--decision" not in command


def _exact(found):
    times, rungs = found
    return times, [rung for rung in rungs if not rung.options]


# ---- What is refused


def renamed(model: ir.Model) -> None:
    model.graph.outputs[0].name = "states"


def another_input(model: ir.Model) -> None:
    input_named(model, "token_type_ids").name = "segments"


def other_numbers(model: ir.Model) -> None:
    ids = input_named(model, "token_type_ids")
    ids.type = ir.TensorType(ir.DataType.INT32)
    readers = list(ids.uses())
    cast = ir.node("Cast", [ids], {"to": ir.DataType.INT64.value})
    for reader, at in readers:
        reader.replace_input_with(at, cast.outputs[0])
    model.graph.insert_before(model.graph[0], cast)


def one_length(model: ir.Model) -> None:
    fix_sizes(model, 12)


def transposed(model: ir.Model) -> None:
    """The same output name, of another shape."""
    (states,) = model.graph.outputs
    turned = ir.node("Transpose", [states], {"perm": [0, 2, 1]})
    states.name = "states"
    turned.outputs[0].name, turned.outputs[0].type = "last_hidden_state", states.type
    turned.outputs[0].shape = ir.Shape([None, None, None])
    model.graph.append(turned)
    model.graph.outputs[0] = turned.outputs[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (renamed, "has no output 'last_hidden_state', as the model has: it has states"),
        (
            another_input,
            "takes 'segments', which the model does not: input_ids, attention_mask, token_type_ids",
        ),
        (
            other_numbers,
            "takes 'token_type_ids' as int32[?, ?], and the model takes token_type_ids int64[?, ?]",
        ),
        (one_length, "takes 'input_ids' as int64[?, 12], and the model takes input_ids int64[?, ?]"),
        (transposed, "gives 'last_hidden_state' as float32[1, 32, 16] for input"),
    ],
)
@pytest.mark.parametrize("command", ["optimize", "advise"])
def test_a_reference_that_does_not_suit_the_model_is_refused_in_one_line(
    tmp_path, data, cli, command, change: Callable[[ir.Model], None], said
):
    reference = changed("bert", tmp_path / "other.onnx", change)
    line = [command, BERT, "--data", data, "--reference", reference]
    with nothing_left_in(tmp_path):
        outcome = cli(*line, *(["-o", tmp_path / "b", "--tolerance", 0.1] if command == "optimize" else []))
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)
    assert f"--reference '{reference}' {said}" in outcome.err
    assert "name the model that this one was made from" in outcome.err


def test_a_reference_may_take_less_and_give_more(tmp_path, data):
    """DistilBERT takes no segments; here the other model is fed what it knows, and its other outputs left."""

    def more(model: ir.Model) -> None:
        (states,) = model.graph.outputs
        double = ir.node("Add", [states, states])
        double.outputs[0].name, double.outputs[0].type = "double", states.type
        model.graph.append(double)
        model.graph.outputs.append(double.outputs[0])
        segments = input_named(model, "token_type_ids")
        zeros = ir.node("Sub", [input_named(model, "input_ids")] * 2)
        for reader, at in list(segments.uses()):
            reader.replace_input_with(at, zeros.outputs[0])
        model.graph.insert_before(model.graph[0], zeros)
        model.graph.inputs.remove(segments)

    reference = changed("bert", tmp_path / "other.onnx", more)
    assert any(rung.options for rung in onnx_memo.advise(BERT, data, reference=reference).rungs)


def test_a_reference_that_is_not_there_or_no_model_is_refused(tmp_path, data, cli):
    line = ["optimize", BERT, "--data", data, "-o", tmp_path / "b", "--tolerance", 0.1, "--reference"]
    assert "is not a file: name an ONNX model" in cli(*line, tmp_path / "no.onnx").err
    (tmp_path / "text.onnx").write_text("no model")
    refused = cli(*line, tmp_path / "text.onnx")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert f"cannot load '{tmp_path / 'text.onnx'}'" in refused.err


def test_without_a_promise_it_has_no_sense(tmp_path, data):
    with pytest.raises(
        MemoError, match="--reference says what --tolerance or --keep means: give one of these"
    ):
        onnx_memo.optimize(BERT, data, tmp_path / "b", reference=BERT)
    assert list(tmp_path.iterdir()) == []
