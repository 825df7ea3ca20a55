"""Without a tolerance or threshold attention is reused for literal repeats alone, whatever the keys say."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import (
    LEVELS,
    assert_identical,
    changed,
    fixture,
    join,
    memoized,
    node_named,
    original,
    random_samples,
    variants,
    write_samples,
)

import onnx_memo
from onnx_memo.data.samples import Samples
from onnx_memo.graph.groups import groups_of
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.levels.sites.capture import capture
from onnx_memo.served import explanation as say

LENGTH = 48  # a segment has 6 tokens


def swapped(request: dict[str, np.ndarray], first: int, second: int) -> dict[str, np.ndarray]:
    ids = request["input_ids"].copy()
    ids[0, [first, second]] = ids[0, [second, first]]
    return request | {"input_ids": ids}


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A model whose states know no positions, with samples; guarded for repeats, and up to a key distance."""
    folder = tmp_path_factory.mktemp("llama")
    samples = random_samples(original(fixture("llama")), [LENGTH] * 12, seed=1)
    data = write_samples(folder / "data.npz", samples)
    literal, near = (
        onnx_memo.optimize(fixture("llama"), data, folder / name, level="output", threshold=threshold).path
        for name, threshold in (("literal", None), ("near", 0.02))
    )
    return samples, literal, near


def test_the_same_tokens_in_another_order_are_no_repeat(llama, mode):
    """Within a segment order does not change its mean, so that the key is the same."""
    samples, literal, near = llama
    before, after = original(fixture("llama")), memoized(literal, mode)
    request = swapped(samples[3], 13, 16)
    assert not np.array_equal(request["input_ids"], samples[3]["input_ids"])
    by_key = onnx_memo.explain(near, arrays=request, native=mode == "native")
    assert by_key.lookups[0].distance < 1e-3 and by_key.lookups[0].reused
    assert_identical(after.run(None, request), before.run(None, request))
    told = onnx_memo.explain(literal, arrays=request, native=mode == "native")
    assert (told.outcome, told.error) == (say.NO_REPEAT, 0)


@settings(max_examples=30)
@given(st.integers(0, LENGTH - 1), st.integers(0, 11), st.integers(1, 60))
def test_a_single_token_that_differs_anywhere_is_no_repeat(llama, at, which, by):
    samples, literal, _ = llama
    before, after = original(fixture("llama")), memoized(literal, "native")
    request = {name: array.copy() for name, array in samples[which].items()}
    most = 64
    request["input_ids"][0, at] = (request["input_ids"][0, at] + by) % most
    if not np.array_equal(request["input_ids"], samples[which]["input_ids"]):
        assert_identical(after.run(None, request), before.run(None, request))


@pytest.mark.parametrize("level", LEVELS)
def test_a_repeat_is_reused_alone_padded_and_among_others(made, mode, level):
    one = made("bert", level)
    before, after = original(one.model), memoized(one.bundle, mode)
    for request in (one.samples[4], join([one.samples[4]], padded=11), join([*one.samples[3:6]])):
        have, want = after.run(None, request)[0], before.run(None, request)[0]
        real = request["attention_mask"] == 1
        assert not np.array_equal(have[real], want[real])  # from the store, in half precision
        np.testing.assert_allclose(have[real], want[real], atol=0.02)


@pytest.mark.parametrize("level", LEVELS)
def test_a_strictness_above_zero_reuses_repeats_and_zero_nothing(made, mode, level):
    one = made("bert", level)
    before, after = original(one.model), memoized(one.bundle, mode)
    request = one.samples[4]
    want = before.run(None, request)
    for strictness, reused in ((1e-9, True), (0.5, True), (0.0, False), (-1.0, False), (np.nan, False)):
        have = after.run(None, request | {"memo_strictness": np.asarray(strictness, np.float32)})
        assert np.array_equal(have[0], want[0]) != reused


@pytest.mark.parametrize("level", LEVELS)
def test_that_only_repeats_are_reused_is_said(made, cli, level):
    one = made("bert", level)
    told = "reused: what attention gave, for requests that repeat a stored input literally"
    assert told in " ".join(cli("inspect", one.bundle).out.split())
    explained = cli("explain", one.bundle, "--data", one.data, "--line", 2).out
    (row,) = [line for line in explained.splitlines() if "attention.0" in line]
    cells = [cell.strip() for cell in row.strip("│ ").split("│")]
    assert cells[-2:] == ["any", "yes"], "an entry is looked at however far it is"


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_is_captured_that_keys_are_learned_from(tmp_path, level):
    opened = OpenedModel(fixture("bert"))
    sites = opened.findings.sites
    samples = Samples(random_samples(original(fixture("bert")), [3, 9], seed=3), [3, 9], None)
    capture(opened, sites, level, samples, tmp_path, lambda: None, groups_of(sites, opened.shapes))
    payloads = [f"{site.name}.{level}" for site in sites]
    assert sorted(file.name for file in tmp_path.iterdir()) == [*payloads, "states.0", "states.0.means"]


def test_the_lookup_stands_at_the_first_site_of_those_that_are_chosen(tmp_path):
    data = write_samples(tmp_path / "data.npz", variants(6, seed=1))
    bundle = onnx_memo.optimize(fixture("bert"), data, tmp_path / "b", level="output", sites="1,2")
    assert [(site.name, site.lookup, site.threshold) for site in bundle.manifest.sites] == [
        ("attention.1", True, 0.0),
        ("attention.2", False, 0.0),
    ]


def test_behind_a_site_that_cannot_be_stored_the_next_one_looks_up(tmp_path, mode):
    """Its numbers are beyond half precision; what the others follow from is not."""

    def enlarge(model: ir.Model) -> None:
        weight = node_named(model, "/encoder/layer.0/attention/output/dense/MatMul").inputs[1]
        weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(1e8), name=weight.name)

    model = changed("bert", tmp_path / "model.onnx", enlarge)
    before = original(model)
    samples = random_samples(before, [5, 9, 9], seed=1)
    data = write_samples(tmp_path / "data.npz", samples)
    bundle = onnx_memo.optimize(model, data, tmp_path / "bundle", level="output")
    assert [(site.name, site.lookup) for site in bundle.manifest.sites] == [
        ("attention.1", True),
        ("attention.2", False),
    ]
    assert any("attention.0 is not guarded: it makes numbers" in note for note in bundle.manifest.notes)
    after = memoized(bundle.path, mode)
    np.testing.assert_allclose(after.run(None, samples[1])[0], before.run(None, samples[1])[0], atol=0.02)
    (other,) = random_samples(before, [9], seed=9)
    assert_identical(after.run(None, other), before.run(None, other))
