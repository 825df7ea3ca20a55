"""Two towers, or an encoder and its decoder: what of a request is reused, and that its answer is right."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support import (
    FIXTURES,
    Arrays,
    assert_identical,
    join,
    memoized,
    original,
    random_samples,
    write_samples,
)
from support_encoder import two_sequences

import onnx_memo
from onnx_memo.errors import MemoError
from onnx_memo.levels.inserter import STRICTNESS
from onnx_memo.levels.registry import level_of
from onnx_memo.served import explanation as say
from onnx_memo.served.explain import explain
from onnx_memo.sessions import open_session
from onnx_memo.store.bundle import read_bundle

CLIP, BART = (FIXTURES / "forms" / f"{form}.onnx" for form in ("clip-torchscript", "bart-dynamo"))
LENGTHS = (4, 4, 7, 11)
FIRST, SECOND = "span.0", "span.1"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return made(CLIP, tmp_path_factory.mktemp("clip"), random_samples(original(CLIP), LENGTHS, seed=1))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """An encoder and its decoder, and of two sources of 6 tokens each with two targets of 4."""
    folder = tmp_path_factory.mktemp("pair")
    samples = [source(6, a) | target(4, b) for a in (1, 2) for b in (3, 4)]
    return made(two_sequences(folder / "model.onnx"), folder, samples)


def source(length: int, seed: int) -> Arrays:
    return {"input_ids": tokens(length, seed), "attention_mask": np.ones((1, length), np.int64)}


def target(length: int, seed: int) -> Arrays:
    return {"other_ids": tokens(length, seed)}


def tokens(length: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 64, (1, length))


def made(model: Path, folder: Path, samples: list[Arrays]) -> tuple[Path, Path, list[Arrays]]:
    """The model, a bundle of it, and the samples that are stored."""
    data = write_samples(folder / "data.npz", samples)
    return model, onnx_memo.optimize(model, data, folder / "bundle").path, samples


def reused(bundle: Path, request: Arrays, mode: str) -> dict[str, bool]:
    """Of each span, whether a request reuses its result."""
    return {name: all(hits) for name, hits in parts_reused(bundle, request, mode).items()}


def parts_reused(bundle: Path, request: Arrays, mode: str) -> dict[str, list[bool]]:
    """Of each span, which sequences reuse its result."""
    guards, model = read_bundle(bundle).sites, ir.load(bundle / "model.onnx")
    watch = level_of(guards).watch(model, guards)
    session = open_session(model, bundle, onnx_memo.session_options(native=mode == "native"))
    return {name: hits.tolist() for name, hits in watch.read(session.run(None, request)).hits.items()}


def assert_near(have, want):
    for one, other in zip(have, want, strict=True):
        assert one.shape == other.shape
        assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other)


def assert_served(built, request: Arrays, mode: str, first: bool, second: bool) -> None:
    """What is reused of the two spans, and that the answer is right, and without reuse the original's."""
    model, bundle, _ = built
    assert reused(bundle, request, mode) == {FIRST: first, SECOND: second}
    want, session = original(model).run(None, request), memoized(bundle, mode)
    assert_near(session.run(None, request), want)
    assert_identical(session.run(None, request | {STRICTNESS: np.zeros((), np.float32)}), want)
    if not (first or second):
        assert_identical(session.run(None, request), want)


def test_each_tower_is_reused_by_itself(clip, mode):
    (one, other, *_), unseen = clip[2], random_samples(original(CLIP), LENGTHS, seed=2)
    picture, text = ({name: s[name] for name in s if name == "pixel_values"} for s in (one, unseen[0])), one
    known, new = picture
    for request, first, second in (
        (one, True, True),
        (other | known, True, True),  # both are stored, but not with each other
        (unseen[0] | known, True, False),
        (text | new, False, True),
        (unseen[0], False, False),
    ):
        assert_served(clip, request, mode, first, second)


def test_towers_of_other_batches_do_not_disturb_each_other(clip, mode):
    """One picture and three texts, as a picture is classified by."""
    one, *_ = clip[2]
    texts = join(random_samples(original(CLIP), (4, 7, 11), seed=2))
    assert_served(clip, texts | {"pixel_values": one["pixel_values"]}, mode, True, False)


def test_an_encoder_is_reused_with_another_target_and_a_decoder_only_with_its_source(pair, mode):
    assert_served(pair, source(6, 1) | target(4, 9), mode, True, False)
    assert_served(pair, source(6, 1) | target(5, 9), mode, True, False)
    assert_served(pair, source(6, 9) | target(4, 3), mode, False, False)
    assert_served(pair, source(5, 9) | target(4, 3), mode, False, False)


def test_a_decoder_has_an_entry_for_each_source_that_its_target_was_stored_with(pair, mode):
    for sample in pair[2]:
        assert_served(pair, sample, mode, True, True)


def test_a_target_that_was_stored_with_another_source_only_is_not_reused(tmp_path, mode):
    samples = [source(6, 1) | target(4, 3), source(6, 2) | target(4, 4)]
    built = made(two_sequences(tmp_path / "model.onnx"), tmp_path, samples)
    assert_served(built, source(6, 1) | target(4, 4), mode, True, False)


def test_no_product_lies_in_an_inner_branch(pair):
    """There ONNX Runtime does not rearrange the weights of products."""
    graph = ir.load(pair[1] / "model.onnx").graph
    guards = [node for node in graph if node.op_type == "If"]
    assert len(guards) == 2
    branches = [graph, *(each.as_graph() for guard in guards for each in guard.attributes.values())]
    inner = [node for node in graph.all_nodes() if node.graph not in branches]
    assert not [node for node in inner if node.op_type in ("MatMul", "Gemm", "Conv")]


def test_a_batch_is_reused_where_all_of_it_is(pair, mode):
    samples = pair[2]
    assert_served(pair, join(samples[:3]), mode, True, True)
    assert_served(pair, join([samples[0], source(6, 2) | target(4, 9)]), mode, True, False)


def test_of_a_batch_each_span_reuses_what_it_can(pair, mode):
    """The second pair is a stored source with another target, the third a stored target of another source."""
    samples = pair[2]
    request = join([samples[0], source(6, 2) | target(4, 9), source(6, 9) | target(4, 3), samples[1]])
    assert_near(memoized(pair[1], mode).run(None, request), original(pair[0]).run(None, request))
    assert parts_reused(pair[1], request, mode) == {
        "span.0": [True, True, False, True],
        "span.1": [True, False, False, True],
    }


def test_one_source_for_a_batch_of_targets_is_computed(pair, mode):
    """What cross-attention makes of it has another batch than what is stored."""
    request = source(6, 1) | join([target(4, 3), target(4, 4)])
    assert_served(pair, request, mode, True, False)
    several = join([source(6, 1), source(6, 2)]) | target(4, 3)
    assert_served(pair, several, mode, True, False)


def test_padding_is_no_obstacle(pair, mode):
    assert_served(pair, join([source(6, 1)], padded=9) | target(4, 3), mode, True, True)


def test_an_exported_decoder_behind_one_layer_of_its_encoder(tmp_path, mode):
    one, other = random_samples(original(BART), (6, 6), seed=1)
    built = made(BART, tmp_path, [one])
    assert not [note for note in read_bundle(built[1]).notes if "not memoized" in note]  # it is inside
    assert_served(built, one, mode, True, True)
    assert_served(built, one | {"decoder_input_ids": other["decoder_input_ids"]}, mode, True, False)


def test_what_occurs_again_is_stored_once(tmp_path):
    """One picture with four texts: one entry of the picture, whose rows are as many as patches."""
    samples = random_samples(original(CLIP), (4, 5, 6, 7), seed=1)
    for sample in samples[1:]:
        sample["pixel_values"] = samples[0]["pixel_values"]
    _, bundle, _ = made(CLIP, tmp_path, samples)
    stored = ir.load(bundle / "model.onnx").graph.initializers
    assert stored[f"memo/{FIRST}/lengths"].const_value.numpy().tolist() == [65]
    assert stored[f"memo/{SECOND}/lengths"].const_value.numpy().tolist() == [4, 5, 6, 7]


def test_explain_tells_what_is_reused(clip, mode):
    (one, *_), unseen = clip[2], random_samples(original(CLIP), (4,), seed=2)[0]
    mixed = unseen | {"pixel_values": one["pixel_values"]}
    told = [explain(clip[1], arrays=request, native=mode == "native") for request in (one, mixed, unseen)]
    assert [each.outcome for each in told] == [say.REPEAT, say.PARTLY, say.NO_REPEAT]
    assert [lookup.reused for lookup in told[1].lookups] == [True, False]
    assert "1 of 2 spans" in told[1].reason


def test_near_repeats_are_refused_in_one_line(clip, tmp_path):
    data = write_samples(tmp_path / "data.npz", clip[2])
    with pytest.raises(MemoError, match=r"without a tolerance it reuses literal repeats, of 2 spans"):
        onnx_memo.optimize(CLIP, data, tmp_path / "bundle", tolerance=0.01, level="rows")
    assert not (tmp_path / "bundle").exists()


def test_inspect_names_the_spans():
    found = onnx_memo.inspect(BART)
    assert [(span.layers, span.width) for span in found.spans] == [(1, 16), (1, 16)]
    assert found.encoder is None and found.repeats
    assert found.as_json()["spans"][1]["output"] == "last_hidden_state"


def test_a_bound_on_the_memo_data_holds_for_all_spans(clip, tmp_path):
    model, _, samples = clip
    data = write_samples(tmp_path / "data.npz", samples)
    with pytest.raises(MemoError, match="give at least") as refused:
        onnx_memo.optimize(model, data, tmp_path / "none", max_bytes=1)
    least = int(re.search(r"at least (\d+)", str(refused.value))[1])
    small = onnx_memo.optimize(model, data, tmp_path / "small", max_bytes=least)
    assert next(small.path.glob("memo-*.data")).stat().st_size <= least
    assert small.manifest.entries == 1


def test_targets_that_no_mask_tells_are_cut_only_of_what_is_one_number(tmp_path):
    """Where both are as wide by chance, the mask of the source says nothing of the target's tokens."""
    samples = [source(4, 1) | target(6, 3), source(6, 2) | target(6, 4), source(3, 5) | target(3, 6)]
    _, bundle, _ = made(two_sequences(tmp_path / "model.onnx"), tmp_path, samples)
    for sample in samples:
        assert reused(bundle, sample, "stock") == {FIRST: True, SECOND: True}


def test_each_sequence_is_cut_by_its_own_mask_and_answers_are_judged_by_it(tmp_path):
    """The decoder's answer has rows of padding where the encoder has none, and the other way round."""
    masks = [{"other_mask": np.ones((1, length), np.int64)} for length in (3, 8)]
    samples = [source(8, 1) | target(3, 3) | masks[0], source(5, 2) | target(8, 4) | masks[1]]
    built = made(two_sequences(tmp_path / "model.onnx", masked=True), tmp_path, samples)
    for sample in samples:
        assert_served(built, sample, "stock", True, True)
    told = onnx_memo.bench(built[0], built[1], tmp_path / "data.npz", native=False, rounds=1)
    assert told.hit_rate == 1 and told.outputs["other_states"]["relative"].worst < 1e-6


def test_inputs_whose_second_mask_has_holes_are_left_out_and_said(tmp_path):
    samples = [source(6, a) | target(6, a + 3) | {"other_mask": np.ones((1, 6), np.int64)} for a in (1, 2, 3)]
    states = {"outputs": ", float[B, L, 8] states", "behind": "  states = Identity (h3_1)\n"}
    model = two_sequences(tmp_path / "model.onnx", cross=False, masked=True, **states)
    samples[1]["other_mask"][0, 2] = 0
    data = write_samples(tmp_path / "data.npz", samples)
    made = onnx_memo.optimize(model, data, tmp_path / "bundle")
    assert any(re.search("1 input left out: its .*'other_mask'", note) for note in made.manifest.notes)
    assert [list(reused(made.path, sample, "stock").values()) for sample in samples] == [
        [True, True],
        [False, False],
        [True, True],
    ]
    for sample in samples:
        sample["other_mask"][0, 2] = 0
    write_samples(tmp_path / "holes.npz", samples)
    with pytest.raises(MemoError, match="of no input are ones and then zeros"):
        onnx_memo.optimize(model, tmp_path / "holes.npz", tmp_path / "none", level="rows")
