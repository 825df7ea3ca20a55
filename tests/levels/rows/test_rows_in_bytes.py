"""The rows that run, in 8 bits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import fixture, join, original, random_samples
from support_precision import exact_products
from support_rows import TINY, Built, build, changed_last, open_pair

from onnx_memo.levels.rows import blueprint
from onnx_memo.levels.rows.attention import count_layers
from onnx_memo.operators.spec import DOMAIN

LENGTHS = (5, 9, 9, 16, 16, 23)
LAYERS = 3


def make(folder: Path, misses: bool) -> Built:
    requests = random_samples(original(fixture("bert")), LENGTHS, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blueprint, "INT8_LIMIT", 2.0)  # so that all rows may run
        build(fixture("bert"), requests, folder, in_bytes=True, misses_in_bytes=misses)
    return Built(folder, fixture("bert"), requests)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return make(tmp_path_factory.mktemp("rows") / "bundle", misses=False)


@pytest.fixture(scope="module")
def all_in_bytes(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return make(tmp_path_factory.mktemp("all") / "bundle", misses=True)


def branch_that_runs(bundle: Path) -> list[ir.Node]:
    model = ir.load(bundle / "model.onnx")
    graphs = [
        attribute.as_graph()
        for node in model.graph
        if node.op_type == "If"
        for attribute in node.attributes.values()
    ]
    (run,) = (graph for graph in graphs if any(node.op_type == "MemoProduct" for node in graph))
    return [node for node in run if node.op_type != "Constant"]


def test_rows_come_near_the_original(built, mode):
    if not exact_products(mode):
        pytest.skip("products of bytes are not exact on this processor")
    pair = open_pair(built, mode)
    for request in pair.stored:
        assert pair.error(request) == 0, "a repeat runs nothing"
        near = changed_last(request)
        answer, want = pair.ask(near, TINY), pair.want(near)
        assert answer.hit
        error = np.linalg.norm(answer.outputs[0] - want) / np.linalg.norm(want)
        assert 0 < error < 0.1
        assert pair.error(near, 0.0) == 0, "the original stays in floats"


REPEATED, NEAR, UNKNOWN = range(3)  # kinds of request


@pytest.mark.parametrize("misses", [False, True])
@pytest.mark.parametrize("strictness", [TINY, 1.0, 0.0])
@given(
    kinds=st.lists(
        st.tuples(st.sampled_from([REPEATED, NEAR, UNKNOWN]), st.integers(0, 4)), min_size=2, max_size=5
    ),
    padding=st.integers(0, 9),
)
@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_request_is_the_same_alone_and_in_any_batch(
    built, all_in_bytes, mode, misses, strictness, kinds, padding
):
    """Whether it is reused, which rows run, and the answer, to the last bit."""
    if not exact_products(mode):
        pytest.skip("products of bytes are not exact on this processor")
    pair = open_pair(all_in_bytes if misses else built, mode)
    unknown = random_samples(pair.before, [4, 10, 12, 7, 20], 77)
    of_kind = {
        REPEATED: pair.stored.__getitem__,
        NEAR: lambda number: changed_last(pair.stored[number]),
        UNKNOWN: unknown.__getitem__,
    }
    requests = [of_kind[kind](number) for kind, number in kinds]
    longest = max(len(request["input_ids"][0]) for request in requests)
    together = pair.ask(join(requests, padded=longest + padding), strictness)
    for at, request in enumerate(requests):
        alone = pair.ask(request, strictness)
        assert together.hits[at] == alone.hit == (strictness > 0 and kinds[at][0] != UNKNOWN)
        own, first = together.rows, at * (longest + padding)
        own = own[(own >= first) & (own < first + longest + padding)] - first
        assert own.tolist() == alone.rows.tolist()
        answer, want = together.outputs[0][at, : len(alone.outputs[0][0])], alone.outputs[0][0]
        np.testing.assert_array_equal(answer, want)


def test_a_layer_is_five_operators(built):
    """And rows join between them."""
    nodes = branch_that_runs(built.bundle)
    kinds = Counter(node.op_type for node in nodes if node.domain == DOMAIN)
    grown = kinds.pop("MemoGrow")
    assert kinds == {
        "MemoProduct": LAYERS,
        "MemoRowsAttention": LAYERS,
        "MemoProductNorm": 2 * LAYERS,
        "MemoProductGelu": LAYERS,
    }
    moving = Counter(node.op_type for node in nodes if node.op_type in ("Reshape", "Transpose", "Split"))
    assert moving == {"Reshape": 3 + 2 * grown}, "before the first layer, after the last, and where rows join"


def test_its_layers_are_counted(built):
    model = ir.load(built.bundle / "model.onnx")
    assert count_layers(model) == LAYERS
    shares = open_pair(built, "stock").watch.shares
    assert shares.sum() == pytest.approx(1)
    assert (shares * LAYERS).tolist() == pytest.approx(np.rint(shares * LAYERS).tolist())
