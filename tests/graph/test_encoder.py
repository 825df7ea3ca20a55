"""The encoder is found whole in every architecture, or refused with the reason."""

from __future__ import annotations

import contextlib
import re

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import RemoveUnusedNodesPass
from support import fix_sizes, fixture, join, open_model, original, random_samples
from support_encoder import TABLES, encoder_model
from support_rows import CORES, ENCODERS, SPANS, TINY, Built, build, changed_at, open_pair

import onnx_memo
from onnx_memo.graph import flow
from onnx_memo.graph.cores import Mixing
from onnx_memo.graph.encoder import Encoder, NoEncoder, find_encoder
from onnx_memo.graph.load import load_model
from onnx_memo.graph.probe import add_outputs
from onnx_memo.graph.rowwise import Rows, Table
from onnx_memo.graph.sites import find_sites
from onnx_memo.levels.rows import blueprint as rows_blueprint

INPUT = {
    "bert": "/embeddings/LayerNorm/LayerNormalization_output_0",
    "bert_dynamo": "layer_norm",
    "distilbert": "/embeddings/LayerNorm/LayerNormalization_output_0",
    "gpt2": "/Add_output_0",
    "mpnet": "/embeddings/LayerNorm/LayerNormalization_output_0",
    "xlm": "/Mul_output_0",
    "vit": "/embeddings/Add_output_0",
    "llama": "/llama/layers.0/input_layernorm/Cast_output_0",
    "deberta_v2": "/embeddings/Mul_output_0",
}
LAYERS = {"bert": 3}
BIASES = {"bert": 1, "bert_dynamo": 1, "distilbert": 1, "gpt2": 2, "mpnet": 2, "xlm": 2, "vit": 0, "llama": 2}
ROTARY = {"llama": 2, "xlm": 1}  # tables of positions; of XLM the mask
HALF = 2e-3

architectures = pytest.mark.parametrize("name", ENCODERS)
of_cores = pytest.mark.parametrize("name", CORES)


def found(path) -> tuple[ir.Model, Encoder]:
    model = load_model(path)
    return model, find_encoder(model, find_sites(model))


def reason(path) -> str:
    """Why the rows of a model cannot be run."""
    model = load_model(path)
    try:
        return str(find_encoder(model, find_sites(model)).why_no_rows)
    except NoEncoder as none:
        return str(none)


# ---- The fixtures


@architectures
def test_the_encoder_reaches_from_the_embeddings_to_the_last_layer(name):
    model, encoder = found(fixture(name))
    assert encoder.input.name == INPUT[name]
    if name == "xlm":  # its last node sets padding to zeros, which a hit has anyway
        assert encoder.output.name == "/layer_norm2.1/LayerNormalization_output_0"
    else:
        assert encoder.output is model.graph.outputs[0]
    assert encoder.width == 32
    if name == "vit":  # its pictures may have any size, and so what its convolution takes is not known
        assert encoder.share is None
    else:
        assert 0.9 < encoder.share <= 1


@of_cores
def test_every_layer_has_a_core(name):
    _, encoder = found(fixture(name))
    assert len(encoder.cores) == LAYERS.get(name, 2)
    for core in encoder.cores:
        assert (core.heads, core.key_width, core.value_width) == (4, 8, 8)
        # The others scale queries and keys before they are multiplied.
        assert core.scale == pytest.approx(8**-0.5 if name == "mpnet" else 1.0)


@architectures
def test_rows_meet_in_what_the_site_finder_knows_as_attention(name):
    model, encoder = found(fixture(name))
    for meeting, site in zip(encoder.meetings, find_sites(model).sites, strict=True):
        assert meeting.context is site.context
        assert meeting.probabilities is site.softmax.outputs[0]
        assert encoder.mask is site.mask


@of_cores
def test_biases_and_tables_lie_outside(name):
    _, encoder = found(fixture(name))
    biases = {value for core in encoder.cores for value in core.bias.values}
    assert (len(biases), len(encoder.tables)) == (BIASES[name], ROTARY.get(name, 0))
    assert set(encoder.boundary) == {encoder.input, *biases, *encoder.tables}
    assert not any(value.producer() in encoder.region for value in (*biases, *encoder.tables))


@architectures
def test_steps_are_in_order_and_read_only_what_is_there(name):
    model, encoder = found(fixture(name))
    place = {node: at for at, node in enumerate(model.graph)}
    assert [place[node] for node in encoder.steps] == sorted(place[node] for node in encoder.steps)
    assert encoder.output in encoder.steps[-1].outputs
    assert set(encoder.steps) <= set(encoder.region)
    contexts = {meeting.context for meeting in encoder.meetings}
    made = {encoder.input} | contexts
    for node in encoder.steps:
        if not contexts.intersection(node.outputs):
            assert all(value in made for value in node.inputs if value in encoder.forms)
        made.update(node.outputs)


@architectures
def test_forms_tell_where_the_rows_are_at_run_time(name):
    """Of two inputs that differ in one row alone, values in front of the first core differ there alone."""
    model, encoder = found(fixture(name))
    context = encoder.meetings[0].context
    first = next(at for at, node in enumerate(encoder.steps) if context in node.outputs)
    values = [v for node in encoder.steps[:first] for v in node.outputs if encoder.forms[v].axis is not None]
    assert {encoder.forms[v] for v in values} >= {Rows(1), Rows(2)}
    width, length = encoder.width, 17 if name == "vit" else 7
    states = ir.val("states", ir.DataType.FLOAT, [2, length, width])
    encoder.input.replace_all_uses_with(states)
    model.graph.outputs.clear()
    model.graph.inputs.append(states)
    names = [v.name for v in values]
    add_outputs(model, values)
    RemoveUnusedNodesPass()(model)
    session = open_model(model)
    a = np.random.default_rng(0).standard_normal((2, length, width), np.float32)
    b = a.copy()
    b[1, 4] += 1
    taken = {value.name for value in session.get_inputs()}
    beside = join(random_samples(original(fixture(name)), [length] * 2, seed=0))
    beside = {key: array for key, array in beside.items() if key in taken}
    results = [session.run(None, beside | {"states": states}) for states in (a, b)]
    for name_, value, one, other in zip(names, values, *results, strict=True):
        form = encoder.forms[value]
        if form.merged:
            one, other = (x.reshape(2, length, *x.shape[1:]) for x in (one, other))
        axis = 1 if form.merged else form.axis
        moved = np.argwhere(one != other)
        assert len(moved), name_
        assert set(moved[:, axis]) == {4}, name_
        assert set(moved[:, 0] // (one.shape[0] // 2)) == {1}, name_


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("deberta_v2_conv", r"^'.*' \(Conv\) is not known to work row by row"),
        ("cross_attention", r"^'/Softmax'"),
        ("no_attention", r"'/4/Softmax': it runs over a tensor of shape \[3, 10\]"),
    ],
)
def test_what_has_no_encoder_says_why(name, why):
    assert re.search(why, reason(fixture(name)))


def test_attention_that_is_no_core_is_a_mixing():
    """Everything else of DeBERTa works row by row. Its distances between positions stay outside.

    Of all rows keys and values are read, as their projections give them, and of those that ask queries.
    """
    _, encoder = found(fixture("deberta_v2"))
    assert encoder.cores == () and len(encoder.meetings) == 2
    for meeting in encoder.meetings:
        assert isinstance(meeting, Mixing)
        assert meeting.context in meeting.nodes[-1].outputs
        assert meeting.asking is not None and meeting.reads == (*meeting.asking.asking, *meeting.asking.kept)
        assert [encoder.shapes[value] for value in meeting.asking.kept] == [(3, 127, 32)] * 2
        assert [encoder.shapes[value] for value in meeting.asking.asking] == [(12, 127, 8)]
        assert set(meeting.reads) <= set(encoder.forms) and set(meeting.nodes) <= set(encoder.region)
        below = flow.downstream(encoder.input)
        assert below.isdisjoint(meeting.beside) and set(meeting.beside) <= set(encoder.boundary)


@pytest.mark.parametrize("name", [*ENCODERS, *SPANS, "cross_attention", "no_attention"])
def test_a_search_changes_nothing(name):
    model = load_model(fixture(name))
    with contextlib.suppress(NoEncoder):
        find_encoder(model, find_sites(model))
    have, want = ir.to_proto(model), ir.to_proto(load_model(fixture(name)))
    assert have.SerializeToString() == want.SerializeToString()


# ---- What mixes rows between the layers

CONV = """
  b0 = Transpose <perm = [0, 2, 1]> (h3_0)
  b1 = Conv <pads = [1, 1]> (b0, kernel)
  between = Transpose <perm = [0, 2, 1]> (b1)
"""
# A row is repeated as often as there are rows.
REPEATED = """
  b0 = Shape <start = 1, end = 2> (h3_0)
  ones = Concat <axis = 0> (i1, b0, i1, i1)
  b1 = Unsqueeze (h3_0, i1)
  b2 = Expand (b1, ones)
  b3 = Transpose <perm = [0, 2, 1, 3]> (b2)
  between = ReduceMean <axes = [2], keepdims = 0> (b3)
"""
KERNEL = {"kernel": np.ones((8, 8, 3), np.float32) / 10}


@pytest.mark.parametrize(
    ("between", "why"),
    [
        (CONV, "'/b1' (Conv) is not known to work row by row"),
        ("  between = CumSum (h3_0, step)\n", "'/between' (CumSum) is not known to work row by row"),
        (
            "  b0 = ReduceMean <axes = [1]> (h3_0)\n  between = Add (h3_0, b0)\n",
            "'/b0' (ReduceMean) works across rows",
        ),
        (
            "  b0 = Slice (h3_0, i0, i1, i1)\n  between = Add (h3_0, b0)\n",
            "'/b0' (Slice) takes rows apart",
        ),
        (
            "  b0 = Softmax <axis = 1> (h3_0)\n  between = Identity (b0)\n",
            "'/b0' (Softmax) works along axis 1, across rows",
        ),
        (REPEATED, "'/b2' (Expand) makes sizes that are not fixed"),
    ],
)
def test_what_mixes_rows_is_refused(tmp_path, between, why):
    assert why in reason(encoder_model(tmp_path / "m.onnx", between=between, constants=KERNEL))


def test_numbers_of_their_own_for_every_sequence_and_position_are_a_table(tmp_path):
    between = "  b0 = Unsqueeze (mask, last)\n  between = Mul (h3_0, b0)\n"
    _, encoder = found(encoder_model(tmp_path / "m.onnx", between=between))
    assert {value.name: table for value, table in encoder.tables.items()} == {"b0": Table(1, (1, -1, 0))}


def test_what_mixes_rows_behind_the_last_layer_stays_outside(tmp_path):
    tail = "  pooled = ReduceMean <axes = [1]> (final)\n  last_hidden_state = Sub (final, pooled)\n"
    _, encoder = found(encoder_model(tmp_path / "m.onnx", tail=tail))
    assert encoder.output.name == "h3_1"
    assert len(encoder.cores) == 2


def test_what_works_row_by_row_behind_the_last_layer_belongs_to_it(tmp_path):
    tail = "  twice = Mul (final, two)\n  last_hidden_state = Add (twice, h3_0)\n"
    _, encoder = found(encoder_model(tmp_path / "m.onnx", tail=tail))
    assert encoder.output.name == "last_hidden_state"


def test_inner_values_that_are_outputs_are_refused_or_lie_outside(tmp_path):
    """Where a branch would hide them, the encoder cannot be guarded as a whole."""
    tail = "  m = ReduceMean <axes = [1]> (h3_0)\n  last_hidden_state = Add (m, final)\n"
    assert reason(encoder_model(tmp_path / "m.onnx", tail=tail)) != "None"


# ---- Tables of positions

TABLE_AXES = {layout: axis for layout, (_, axis) in TABLES.items()}


@pytest.mark.parametrize("layout", TABLE_AXES)
def test_tables_have_positions_and_stay_outside(tmp_path, layout):
    _, encoder = found(encoder_model(tmp_path / "m.onnx", rotary=layout))
    tables = {value.name: table for value, table in encoder.tables.items()}
    assert tables == dict.fromkeys(("cos", "sin"), Table(TABLE_AXES[layout]))
    assert {value.name for value in encoder.boundary} == {"hidden_0", "bias", "cos", "sin"}


def rotary_pair(tmp_path, mode: str, layout: str, layers: int, lengths=(9, 9, 14)):
    assert layout in TABLES
    model = encoder_model(tmp_path / "m.onnx", rotary=layout, layers=layers)
    samples = random_samples(original(model), lengths, seed=1)
    build(model, samples, tmp_path / "bundle")
    return open_pair(Built(tmp_path / "bundle", model, samples), mode)


@pytest.fixture
def all_rows_may_run(monkeypatch):
    monkeypatch.setattr(rows_blueprint, "LIMIT", 2.0)


@pytest.mark.usefixtures("all_rows_may_run")
@pytest.mark.parametrize("layout", TABLE_AXES)
def test_rows_are_rotated_by_their_own_positions(tmp_path, mode, layout):
    """In one layer a changed row depends on the others' inputs alone, which are stored."""
    pair = rotary_pair(tmp_path, mode, layout, layers=1)
    for places in ((0,), (6,), (2, 5, 8)):
        request = changed_at(pair.stored[2], *places)
        answer, want = pair.ask(request), pair.want(request)
        assert answer.rows.tolist() == list(places)
        difference = np.abs(answer.outputs[0] - want)[0, list(places)].max()
        assert difference <= HALF * np.abs(want).max()


@pytest.mark.usefixtures("all_rows_may_run")
@pytest.mark.parametrize("layout", TABLE_AXES)
def test_with_tables_the_original_is_met_where_all_rows_run(tmp_path, mode, layout):
    pair = rotary_pair(tmp_path, mode, layout, layers=2)
    for request in (*pair.stored, *random_samples(pair.before, [9, 14], seed=5)):
        assert pair.ask(request, TINY).hit
        assert pair.error(request, TINY) <= 1e-4
    padded = join(random_samples(pair.before, [9], seed=6), padded=12)
    answer, want = pair.ask(padded, TINY), pair.want(padded)
    assert answer.hit
    assert np.abs(answer.outputs[0] - want)[0, :9].max() <= 1e-4 * np.abs(want).max()


@pytest.mark.usefixtures("all_rows_may_run")
def test_with_a_fixed_length_tables_may_be_constants(tmp_path, mode):
    angles = np.arange(9, dtype=np.float32)[:, None] * np.asarray([[1.0, 0.1, 1.0, 0.1]], np.float32)
    tables = {"cos": np.cos(angles)[None, None], "sin": np.sin(angles)[None, None]}
    path = encoder_model(tmp_path / "m.onnx", rotary="constant", layers=1, constants=tables)
    model = ir.load(path)
    fix_sizes(model, 9)
    ir.save(model, path)
    samples = random_samples(original(path), [9, 9], seed=1)
    build(path, samples, tmp_path / "bundle")
    pair = open_pair(Built(tmp_path / "bundle", path, samples), mode)
    for places in ((4,), (2, 5, 8)):
        request = changed_at(samples[1], *places)
        answer, want = pair.ask(request), pair.want(request)
        assert answer.rows.tolist() == list(places)
        difference = np.abs(answer.outputs[0] - want)[0, list(places)].max()
        assert difference <= HALF * np.abs(want).max()


@pytest.mark.usefixtures("all_rows_may_run")
@pytest.mark.skipif(onnx_memo.library_path() is None, reason="the native library is not built")
@pytest.mark.parametrize("layout", TABLE_AXES)
def test_tables_in_a_batch(tmp_path, layout):
    """Positions count from each sequence's own first row."""
    pair = rotary_pair(tmp_path, "native", layout, layers=2)
    requests = [
        changed_at(pair.stored[2], 3),
        changed_at(pair.stored[0], 8),
        pair.stored[1],
        *random_samples(pair.before, [11], seed=5),
    ]
    answer = pair.ask(join(requests, padded=16))
    assert answer.hits.tolist() == [True, True, True, False]
    for at, request in enumerate(requests):
        alone = pair.ask(request).outputs[0][0]
        scale = np.abs(alone).max()
        assert np.abs(answer.outputs[0][at, : len(alone)] - alone).max() <= 1e-5 * scale
