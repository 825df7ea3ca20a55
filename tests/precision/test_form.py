"""An encoder's form in 8 bits against the original: with all channels in floats the same, else near it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from support import (
    Arrays,
    assert_identical,
    fixture,
    join,
    random_samples,
    relative_errors,
)
from support_operators import NATIVE
from support_precision import (
    CORE,
    HEADS,
    LAST,
    MERGE,
    MOST_APART,
    PLAIN,
    Int8Pair,
    exact_products,
    int8_pair,
    small_encoder,
)
from support_rows import ENCODERS, opened

import onnx_memo
from onnx_memo.levels.int8.guard import RAN
from onnx_memo.operators.spec import DOMAIN
from onnx_memo.precision.chains import find_chains
from onnx_memo.precision.form import Form

SAME = 2e-5  # relative L2 error of floats that are added in another order
NEAR = 0.06  # and that of products in 8 bits, of these models of random weights

every_encoder = pytest.mark.parametrize("name", ENCODERS)
masked = pytest.mark.parametrize("name", [name for name in ENCODERS if name != "vit"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where guarded models of the fixtures are made once."""
    return tmp_path_factory.mktemp("int8")


# The modes that there are.
RUNNING = ["stock"] + ["native"] * (onnx_memo.library_path() is not None)


def pair_of(name: str, root: Path, mode: str, apart: int | None = None, threads: int = 1) -> Int8Pair:
    if not exact_products(mode):
        pytest.skip("products of bytes are not exact on this processor: the original runs")
    return int8_pair(fixture(name), root / f"{name}-{apart}", mode, apart, threads)


@pytest.fixture
def floats(root: Path, mode: str, name: str) -> Int8Pair:
    """With all channels apart: the form's structure by itself."""
    return pair_of(name, root, mode, MOST_APART)


@pytest.fixture
def rounded(root: Path, mode: str, name: str) -> Int8Pair:
    """As bundles have it."""
    return pair_of(name, root, mode)


def requests_of(pair: Int8Pair) -> list[Arrays]:
    """Alone, long and short, and in batches."""
    some = random_samples(pair.before, (1, 2, 7, 33, 60), seed=5)
    return [*some, join(some[2:3] * 2), join(some[1:4]), join(some, padded=64)]


def check(pair: Int8Pair, request: Arrays, most: float) -> float:
    """Near the original where tokens are real, zeros elsewhere; returns the largest relative L2 error."""
    have, want = pair.ask(request), pair.want(request)
    assert have.shape == want.shape
    if pair.masked:
        assert not have[request["attention_mask"] == 0].any()
    worst = max(relative_errors(request, have, want))
    assert worst <= most
    return worst


# ---- The fixtures


@every_encoder
def test_with_all_channels_in_floats_the_form_is_the_original(floats):
    assert max(check(floats, request, SAME) for request in requests_of(floats)) > 0


@every_encoder
def test_in_8_bits_the_form_is_near_the_original(rounded, name):
    for request in requests_of(rounded):
        assert check(rounded, request, NEAR) > 1e-4


@masked
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_is_left_out(floats, side, name):
    request = join(random_samples(floats.before, (3, 17, 1, 9), seed=6), side=side)
    check(floats, request, SAME)


@masked
def test_masks_with_holes_are_followed(floats):
    request = join(random_samples(floats.before, (9, 12), seed=7))
    request["attention_mask"][0, [1, 2, 7]] = 0
    request["attention_mask"][1, [4, 11]] = 0
    check(floats, request, SAME)


@masked
def test_a_sequence_without_tokens_runs_as_in_the_original(floats, name):
    request = join(random_samples(floats.before, (9, 12, 4), seed=8))
    request["attention_mask"][1] = 0
    have, want = floats.ask(request), floats.want(request)
    for row in (0, 2):
        real = request["attention_mask"][row] == 1
        assert np.linalg.norm((have - want)[row][real]) <= SAME * np.linalg.norm(want[row][real])
    np.testing.assert_allclose(have[1], want[1], rtol=1e-3, atol=1e-4)


@every_encoder
@pytest.mark.parametrize("strictness", [0.0, -1.0, np.nan])
def test_at_strictness_0_the_original_runs(rounded, strictness):
    for request in requests_of(rounded):
        assert_identical([rounded.ask(request, strictness)], [rounded.want(request)])


@every_encoder
@pytest.mark.parametrize("strictness", [1e-6, 0.5, 5.0, np.inf])
def test_every_strictness_above_0_is_the_same(rounded, strictness):
    (request,) = random_samples(rounded.before, [9], seed=9)
    assert_identical([rounded.ask(request, strictness)], [rounded.ask(request)])


@every_encoder
@pytest.mark.parametrize("mode", [NATIVE])
def test_an_answer_alone_is_that_of_any_batch_on_any_number_of_threads(root, mode, name):
    one, two = (pair_of(name, root, mode, threads=threads) for threads in (1, 2))
    some = random_samples(one.before, (1, 5, 18, 40, 60), seed=10)
    alone = [one.ask(request) for request in some]
    for pair in (one, two):
        for order in ([0, 1, 2, 3, 4], [4, 2], [3, 3, 1]):
            answers = pair.ask(join([some[at] for at in order], padded=64 if name != "vit" else 0))
            for row, at in enumerate(order):
                assert_identical([answers[row, : alone[at].shape[1]]], [alone[at][0]])
        for request, answer in zip(some, alone, strict=True):
            assert_identical([pair.ask(request)], [answer])


@pytest.mark.parametrize("name", ["bert_dynamo"])  # the other fixtures take no empty batch
def test_an_empty_batch_gives_what_the_original_gives(rounded):
    (request,) = random_samples(rounded.before, [7], seed=11)
    empty = {name: array[:0] for name, array in request.items()}
    assert_identical([rounded.ask(empty)], [rounded.want(empty)])


@every_encoder
def test_the_guard_tells_whether_the_form_ran(root, name):
    int8_pair(fixture(name), root / f"{name}-None", "stock")
    model = ir.load(root / f"{name}-None" / "model.onnx")
    values = {value.name for node in model.graph for value in node.outputs}
    assert RAN in values
    inputs = [value.name for value in ir.load(fixture(name)).graph.inputs]
    assert [value.name for value in model.graph.inputs][: len(inputs)] == inputs
    assert [value.name for value in model.graph.outputs] == ["last_hidden_state"]


KINDS = {  # of each layer
    "bert": {"MemoProduct": 1, "MemoProductGelu": 1, "MemoProductNorm": 2, "MemoSelfAttention": 1},
    "vit": {"MemoProduct": 1, "MemoProductGelu": 1, "MemoProductNorm": 2, "MemoSelfAttention": 1},
    "gpt2": {"MemoProduct": 1, "MemoProductGeluTanh": 1, "MemoProductNorm": 2, "MemoSelfAttention": 1},
    "llama": {"MemoProduct": 6, "MemoProductSilu": 1, "MemoSelfAttention": 1},
}


@pytest.mark.parametrize("name", KINDS)
def test_a_layer_is_few_operators(root, name):
    int8_pair(fixture(name), root / f"{name}-None", "stock")
    model = ir.load(root / f"{name}-None" / "model.onnx")
    (guard,) = (node for node in model.graph if node.op_type == "If")
    branch = guard.attributes["then_branch"].as_graph()
    kinds = [node.op_type for node in branch if node.domain == DOMAIN]
    layers = len(opened(fixture(name)).encoder.cores)
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        kind: layers * count for kind, count in KINDS[name].items()
    }
    if name != "llama":
        assert not {node.op_type for node in branch} & {"MatMul", "Gemm", "Softmax", "Erf", "ReduceMean"}
    if name in ("bert", "vit"):  # what moves numbers stands before and after all layers
        nodes = [node for node in branch if node.op_type != "Constant"]
        first, last = (
            find(at for at, node in enumerate(nodes) if node.domain == DOMAIN) for find in (min, max)
        )
        assert {node.op_type for node in nodes[first : last + 1]} - set(kinds) <= {"Expand"}


# ---- Small encoders


ONE_HEAD = {
    "heads": "q = Identity (q0)\n v = Identity (v0)\n k = Transpose <perm = [0, 2, 1]> (k0)\n",
    "core": CORE.replace("s2 = Add (s1, bias)", "s2 = Identity (s1)"),
    "merge": "merged = Identity (context)\n",
}
W24 = np.random.default_rng(7).standard_normal((8, 24)).astype(np.float32) / 3
NORM = "LayerNormalization <epsilon = 0.00001> (sum, gamma, beta)\n"
CASES = {
    "as it is": {},
    "biases on all": {
        "qkv": PLAIN.replace("0 = Mat", "b = Mat") + "".join(f"{x}0 = Add (b{x}, {x}b)\n" for x in "qkv"),
        "out": "o0 = MatMul (merged, wo)\n attended = Add (b1, o0)\n",
    },
    "queries times 2": {"qkv": PLAIN.replace("q0", "qs") + "q0 = Mul (qs, two)\n"},
    "keys by 2, values and their bias times 2": {
        "qkv": PLAIN.replace("k0", "ks").replace("v0", "vs")
        + "vb = Add (vs, bv)\n k0 = Div (ks, two)\n v0 = Mul (two, vb)\n",
    },
    "queries through tanh": {"qkv": PLAIN.replace("q0", "qs") + "q0 = Tanh (qs)\n"},
    "one product": {
        "qkv": "qkv = MatMul (hidden_0, w24)\n q0, k0, v0 = Split <axis = -1> (qkv, eights)\n",
        "constants": {"w24": W24, "eights": np.asarray([8, 8, 8])},
    },
    "one product and a bias, interleaved by heads": {
        "qkv": """
          mm = MatMul (hidden_0, w24)
          all = Add (mm, b24)
          parted = Reshape (all, bysplit)
          turned = Transpose <perm = [0, 2, 1, 3]> (parted)
          q, k1, v = Split <axis = -1> (turned, fours)
          k = Transpose <perm = [0, 1, 3, 2]> (k1)
        """,
        "heads": "",
        "constants": {
            **{"w24": W24, "b24": W24[0] * 3},
            **{"bysplit": np.asarray([0, 0, 2, 12]), "fours": np.asarray([4, 4, 4])},
        },
    },
    "columns permuted within heads": {
        "heads": HEADS.replace("q1 = Reshape (q0, split)", "q2 = Reshape (q0, bywidth)").replace(
            "q = Transpose <perm = [0, 2, 1, 3]> (q1)", "q = Transpose <perm = [0, 3, 1, 2]> (q2)"
        ),
        "constants": {"bywidth": np.asarray([0, 0, 4, 2])},
    },
    "heads merged in another order": {
        "merge": "m0 = Transpose <perm = [0, 2, 3, 1]> (context)\n merged = Reshape (m0, join)\n"
    },
    "a context that is scaled": {"merge": MERGE.replace("merged", "m1") + "merged = Mul (m1, two)\n"},
    "one head, of three axes": ONE_HEAD,
    "one head, whose context the product reads": ONE_HEAD
    | {"core": ONE_HEAD["core"].replace("context =", "merged ="), "merge": ""},
    "gemm, turned": {
        "out": "flat = Reshape (merged, rows)\n o0 = Gemm <transB = 1> (flat, wo, b1)\n"
        "shape = Shape (merged)\n attended = Reshape (o0, shape)\n",
        "constants": {"rows": np.asarray([-1, 8])},
    },
    "gemm, a residual and a normalization": {
        "out": "flat = Reshape (merged, rows)\n o0 = Gemm (flat, wo, b1)\n"
        "shape = Shape (merged)\n attended = Reshape (o0, shape)\n",
        "last": f"sum = Add (hidden_0, attended)\n last_hidden_state = {NORM}",
        "constants": {"rows": np.asarray([-1, 8])},
    },
    "a normalization whose sum goes on": {
        "last": f"sum = Add (hidden_0, attended)\n normal = {NORM}"
        "h0 = MatMul (normal, w1)\n h1 = Relu (h0)\n h2 = MatMul (h1, w2)\n"
        "last_hidden_state = Add (h2, sum)\n"
    },
    "a sum that is the output": {"last": LAST},
    "a linear step that is read twice": {
        "last": "h0 = MatMul (attended, w1)\n h1 = Relu (h0)\n h2 = MatMul (h1, w2)\n"
        "last_hidden_state = Add (h2, h0)\n"
    },
    "two linear steps in one normalized sum": {
        "last": f"h0 = MatMul (attended, w1)\n h1 = MatMul (hidden_0, w2)\n sum = Add (h0, h1)\n"
        f"last_hidden_state = {NORM}"
    },
    "a gate": {
        "last": "h0 = MatMul (attended, w1)\n h1 = Sigmoid (h0)\n h2 = Mul (h0, h1)\n"
        "h3 = MatMul (attended, w2)\n last_hidden_state = Mul (h2, h3)\n"
    },
    "six columns between": {
        "last": "h0 = MatMul (attended, w8x6)\n h1 = Relu (h0)\n last_hidden_state = MatMul (h1, w6x8)\n",
        "constants": {"w8x6": W24[:, :6].copy(), "w6x8": W24[:6, :8].copy()},
    },
    "a hundred columns between": {
        "last": "h0 = MatMul (attended, w8x100)\n h1 = Relu (h0)\n last_hidden_state = MatMul (h1, w100x8)\n",
        "constants": {
            "w8x100": np.tile(W24, 5)[:, :100] - 0.1,
            "w100x8": np.tile(W24.T, (5, 1))[:100].copy(),
        },
    },
    "opset 13": {"opset": 13},
}


@pytest.mark.parametrize("case", CASES)
def test_however_it_is_written_the_form_does_the_same(tmp_path, case):
    model = small_encoder(tmp_path / "model.onnx", **CASES[case])
    wide = "hundred" in case  # of that product 64 channels may be apart, not all
    for apart, most in ((MOST_APART, 0.1 if wide else SAME), (1, 0.1)):
        for mode in filter(exact_products, RUNNING):
            pair = int8_pair(model, tmp_path / f"{apart}", mode, apart)
            worst = max(check(pair, request, most) for request in requests_of(pair))
            assert worst > 0 or apart == MOST_APART


def test_what_is_not_needed_is_not_made():
    """Of a chain its end and sum, of a core its context: nothing that lies between."""
    found = opened(fixture("bert"))
    form = Form(found.encoder, find_chains(found))
    core = found.encoder.cores[0]
    needed = form.needed()
    assert core.context in needed
    assert needed.isdisjoint({core.query, core.key, core.value, core.probabilities})
    assert len(needed) == 1 + 7 * 3  # of a layer: context, merged, two sums, two ends, activation


def test_a_product_is_rounded_for_the_rows_that_it_reads():
    found = opened(fixture("bert"))
    tasks = Form(found.encoder, find_chains(found)).tasks()
    assert tasks[0].x is found.encoder.input
    assert tasks[0].key is found.encoder.cores[0].context
    assert len({task.key for task in tasks}) == len(tasks) == 12


@pytest.mark.parametrize("shape", [(1, 9), (1, 1)])
@pytest.mark.parametrize("name", ["bert", "distilbert"])
def test_one_mask_may_stand_for_all_sequences(root, mode, name, shape):
    """As ONNX broadcasts it: each sequence runs, not the first alone."""
    pair = pair_of(name, root, mode, MOST_APART)
    request = join(random_samples(pair.before, [9, 9, 9], seed=3)) | {
        "attention_mask": np.ones(shape, np.int64)
    }
    want, have = pair.want(request), pair.ask(request)
    assert np.linalg.norm(have - want, axis=(1, 2)).max() <= SAME * np.linalg.norm(want, axis=(1, 2)).min()
