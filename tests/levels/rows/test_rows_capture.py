"""What is captured for the level `rows`: whole encoder runs, unpadded, as precise as they are stored."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from support import (
    changed,
    fix_sizes,
    fixture,
    join,
    mixing_rows,
    node_named,
    original,
    random_samples,
    variants,
)
from support_encoder import encoder_model
from support_rows import CORES, ENCODERS, build, capture_of, opened, samples_of

from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import model_inputs
from onnx_memo.errors import MemoError
from onnx_memo.graph.encoder import NoEncoder, find_encoder
from onnx_memo.graph.load import load_model
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.probe import add_outputs
from onnx_memo.graph.sites import find_sites
from onnx_memo.job import Job
from onnx_memo.keys.network import segment_means
from onnx_memo.levels import lookup
from onnx_memo.levels.base import Wanted
from onnx_memo.levels.registry import allowed
from onnx_memo.levels.rows.capture import attention_rollout, capture_rows
from onnx_memo.levels.rows.layout import literal_footprint, rows_footprint
from onnx_memo.operators.spec import SEGMENTS
from onnx_memo.proof.goal import Goal
from onnx_memo.proof.measure import Distance
from onnx_memo.proof.promise import Promise
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session
from onnx_memo.store.data import memo_data

LENGTHS = (3, 9, 9, 14)


def attention(layers: int, n: int, seed: int = 0) -> list[np.ndarray]:
    scores = np.random.default_rng(seed).standard_normal((layers, n, n), np.float32)
    powers = np.exp(scores)
    return list(powers / powers.sum(axis=-1, keepdims=True))


# ---- The rollout


def test_what_reaches_a_row_sums_to_one():
    """J[j, t]: over all j, a row t gets everything it is made of."""
    for kept in (0.5, 0.7):
        rollout = attention_rollout(attention(5, 12), kept)
        np.testing.assert_allclose(rollout.sum(axis=0), 1, atol=1e-5)
        assert (rollout > 0).all()
        assert rollout.flags.c_contiguous


def test_attention_to_itself_alone_reaches_nothing_else():
    np.testing.assert_allclose(attention_rollout([np.eye(6, dtype=np.float32)] * 4), np.eye(6), atol=1e-6)


def test_one_layer_is_part_attention_and_part_residual():
    (layer,) = attention(1, 7)
    np.testing.assert_allclose(attention_rollout([layer]), (layer.T + np.eye(7)) / 2, atol=1e-6)
    want = 0.25 * layer.T + 0.75 * np.eye(7)
    np.testing.assert_allclose(attention_rollout([layer], 0.75), want, atol=1e-6)


def test_layers_follow_each_other():
    """What token 0 gives to row 1 in the first layer, row 2 gets from row 1 in the second."""
    first, second = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    first[1], second[2] = [1, 0, 0], [0, 1, 0]
    assert attention_rollout([first, second])[0, 2] == pytest.approx(0.25)
    assert attention_rollout([second, first])[0, 2] == 0


def test_causal_attention_reaches_nothing_before():
    layers = [np.tril(layer) for layer in attention(3, 8)]
    assert not np.tril(attention_rollout(layers), -1).any()


# ---- The files


def inner_values(name: str, request) -> list[np.ndarray]:
    """Input, output, and of each core keys, values and probabilities, as the model has them."""
    model = load_model(fixture(name))
    encoder = find_encoder(model, find_sites(model))
    wanted = [encoder.input, encoder.output]
    for core in encoder.cores:
        wanted += [core.key, core.value, core.probabilities]
    add_outputs(model, wanted)
    session = open_session(model, fixture(name).parent, session_options(native=False))
    names = [output.name for output in session.get_outputs()]
    results = dict(zip(names, session.run(None, request), strict=True))
    return [results[value.name] for value in wanted]


@pytest.mark.parametrize("name", CORES)
def test_every_sample_is_kept_as_it_ran(tmp_path, name):
    requests = random_samples(original(fixture(name)), LENGTHS, seed=2)
    captured = capture_of(fixture(name), requests, tmp_path)
    assert captured.lengths.tolist() == ([17] * 4 if name == "vit" else list(LENGTHS))
    layers = range(len(captured.kept))
    assert captured.width == 32
    assert captured.kept == tuple(((f"keys.{layer}", 32), (f"values.{layer}", 32)) for layer in layers)
    tokens, heads = int(captured.lengths.sum()), 4
    for at, request in enumerate(requests):
        n = int(captured.lengths[at])
        before, after, *cores = inner_values(name, request)
        own = captured.tokens(at)
        np.testing.assert_array_equal(captured.states(0)[own], before[0].astype(np.float16))
        np.testing.assert_array_equal(captured.states(len(captured.stages))[own], after[0])
        np.testing.assert_allclose(captured.means[at], segment_means(before[0]).ravel(), rtol=1e-6)
        averaged = [p.reshape(heads, n, n).mean(axis=0) for p in cores[2::3]]
        for stage, first in enumerate([*captured.stages, len(averaged)]):
            if stage:
                kept = captured.past(stage)[captured.numbers(at)].reshape(n, n)
                np.testing.assert_allclose(kept, attention_rollout(averaged[:first]), atol=1e-3)
            if first < len(averaged):  # the fixtures' stages are single layers
                kept = captured.reach(stage)[captured.numbers(at)].reshape(n, n)
                np.testing.assert_allclose(kept, attention_rollout([averaged[first]], 0.7), atol=1e-3)
        for layer, (keys, values) in enumerate(zip(cores[0::3], cores[1::3], strict=True)):
            for kind, array in (("keys", keys), ("values", values)):
                file = np.fromfile(captured.path(f"{kind}.{layer}"), np.float16).reshape(tokens, 32)
                np.testing.assert_array_equal(file[own].ravel(), array.astype(np.float16).ravel())
    assert captured.means.shape == (4, SEGMENTS * 32)


def test_literal_repeats_need_neither_keys_nor_values(tmp_path):
    requests = random_samples(original(fixture("bert")), LENGTHS, seed=2)
    captured = capture_of(fixture("bert"), requests, tmp_path, literal=True)
    kinds = {path.name for path in tmp_path.glob("rows.*")}
    assert kinds == {"rows.means", "rows.states.0", "rows.final"}
    assert captured.states(1).shape == (sum(LENGTHS), 32)


def test_padding_is_cut_off(tmp_path):
    """Of samples of one file, padded to the longest, only real tokens are stored."""
    requests = random_samples(original(fixture("bert")), LENGTHS, seed=2)
    captured = capture_of(fixture("bert"), requests, tmp_path)
    assert captured.states(1).shape == (sum(LENGTHS), 32)
    assert captured.past(1).shape == (sum(n * n for n in LENGTHS),)


def test_an_export_of_fixed_length_keeps_its_real_tokens(tmp_path):
    """It runs padded; what is stored is what the same model of free length gives for the real tokens."""
    model = changed("bert", tmp_path / "fixed.onnx", lambda model: fix_sizes(model, 14))
    requests = random_samples(original(fixture("bert")), LENGTHS, seed=2)
    free, fixed = tmp_path / "free", tmp_path / "fixed"
    free.mkdir()
    fixed.mkdir()
    np.savez(fixed / "data.npz", **join(requests))
    samples = read_samples(fixed / "data.npz", model_inputs(OpenedModel(model)), None)
    have = capture_rows(OpenedModel(model), samples, fixed, lambda: None)
    want = capture_of(fixture("bert"), requests, free)
    assert have.lengths.tolist() == list(LENGTHS)
    np.testing.assert_allclose(have.states(3), want.states(3), atol=1e-5)
    np.testing.assert_allclose(have.means, want.means, atol=1e-5)
    for kind in ("rollout", "keys.0", "values.2"):
        a, b = (np.fromfile(c.path(kind), np.float16) for c in (have, want))
        np.testing.assert_allclose(a, b, atol=2e-3)


def large_values(model: ir.Model) -> None:
    weight = node_named(model, "/encoder/layer.0/attention/self/value/MatMul").inputs[1]
    weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(1e8), name=weight.name)


def test_numbers_too_large_for_half_precision_are_refused(tmp_path):
    model = changed("bert", tmp_path / "m.onnx", large_values)
    requests = random_samples(original(model), LENGTHS, seed=2)
    with pytest.raises(MemoError, match="numbers that half precision cannot hold: 'rows' cannot store them"):
        capture_of(model, requests, tmp_path)
    capture_of(model, requests, tmp_path, literal=True)  # which stores no values


def test_a_model_without_an_encoder_is_refused(tmp_path):
    model = changed("bert", tmp_path / "model.onnx", mixing_rows)
    requests = random_samples(original(model), LENGTHS, seed=2)
    with pytest.raises(NoEncoder, match="works across rows"):
        capture_of(model, requests, tmp_path)


def test_each_sample_is_reported(tmp_path):
    told = []
    requests = random_samples(original(fixture("bert")), LENGTHS, seed=2)
    samples = samples_of(fixture("bert"), requests, tmp_path)
    capture_rows(OpenedModel(fixture("bert")), samples, tmp_path, lambda: told.append(1))
    assert len(told) == len(LENGTHS)


# ---- How much it takes


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("count", [1, 20])
def test_the_footprint_is_an_upper_bound(tmp_path, name, literal, count):
    lengths = np.arange(count) % 23 + 8
    requests = random_samples(original(fixture(name)), lengths, seed=2)
    captured = build(fixture(name), requests, tmp_path / "bundle", literal=literal)
    model = opened(fixture(name))
    longest = int(captured.lengths.max())
    size = literal_footprint(model.span, longest) if literal else rows_footprint(model)
    whole = memo_data(tmp_path / "bundle").stat().st_size
    each = int(size.each(captured.lengths).sum())
    assert whole <= size.total(captured.lengths)
    assert each <= whole  # what is counted an entry is not more than they take


@pytest.mark.parametrize("goal", [None, Goal(Promise(0.1), Distance())])
def test_the_elements_of_a_picture_are_no_tokens(tmp_path, goal):
    """The disk that is asked for follows from the patches: 17, not 768."""
    opened = OpenedModel(fixture("vit"))
    requests = random_samples(original(fixture("vit")), [1] * 10, seed=2)
    samples = samples_of(fixture("vit"), requests, tmp_path)
    job = Job(opened, samples, tmp_path, goal)
    needed = sum(use.bytes_needed(job) for _, use in allowed(opened, Wanted(), []))
    assert needed < 10 * 100_000 + 2_000_000


@pytest.mark.parametrize("literal", [False, True])
def test_the_footprint_of_many_entries_of_one_length(tmp_path, literal, monkeypatch):
    """They get an index."""
    pytest.importorskip("annoy", reason="annoy is not installed")
    monkeypatch.setattr(lookup, "EXACT_SEARCH", 8)
    captured = build(fixture("bert"), variants(40, seed=1), tmp_path / "bundle", literal=literal)
    model = opened(fixture("bert"))
    size = literal_footprint(model.span, 16) if literal else rows_footprint(model)
    assert memo_data(tmp_path / "bundle").stat().st_size <= size.total(captured.lengths)


def test_keys_and_values_of_rotated_heads_are_stored_rotated(tmp_path):
    """The core's own keys: what its product reads."""
    model = encoder_model(tmp_path / "m.onnx", rotary="[1, 1, L, d]", layers=1)
    (request,) = random_samples(original(model), [9], seed=1)
    captured = capture_of(model, [request], tmp_path)
    watched = load_model(model)
    encoder = find_encoder(watched, find_sites(watched))
    add_outputs(watched, [encoder.cores[0].key])
    session = open_session(watched, tmp_path, session_options(native=False))
    keys = np.fromfile(captured.path("keys.0"), np.float16)
    np.testing.assert_array_equal(keys, session.run(None, request)[-1].astype(np.float16).ravel())
