"""Of a classifier or reranker only the first row goes on after the last attention; or the last row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from support import Arrays, assert_identical, changed, join, random_samples
from support_precision import MOST_APART, Int8Pair, exact_products, int8_pair
from support_rows import CORES, ENCODERS, opened

from onnx_memo.graph.row_read import FIRST, LAST, row_read
from onnx_memo.runtime import session_options

SAME = 2e-5  # relative L2 error of floats that are added in another order


def reading(op_type: str, numbers: list[list[int] | int], **attributes: int) -> Callable[[ir.Model], None]:
    """The model gives what a node makes of its states [B, L, d] and these constants."""

    def change(model: ir.Model) -> None:
        (states,) = model.graph.outputs
        constants = [ir.node("Constant", [], {"value": ir.tensor(np.asarray(one))}) for one in numbers]
        node = ir.node(op_type, [states, *(one.outputs[0] for one in constants)], attributes)
        node.outputs[0].name, node.outputs[0].type = "read", states.type
        model.graph.extend([*constants, node])
        model.graph.outputs[0] = node.outputs[0]

    return change


END = 2**63 - 1
READERS = {
    "the first": (reading("Gather", [0], axis=1), FIRST),
    "the first, of one": (reading("Gather", [[0]], axis=-2), FIRST),
    "a slice of the first": (reading("Slice", [[0], [1], [1]]), FIRST),
    "a slice of the first, by one": (reading("Slice", [[0], [1], [-2], [1]]), FIRST),
    "the last": (reading("Gather", [-1], axis=1), LAST),
    "a slice of the last": (reading("Slice", [[-1], [END], [1]]), LAST),
    "the second": (reading("Gather", [1], axis=1), None),
    "the first two": (reading("Gather", [[0, 1]], axis=1), None),
    "the first sequence": (reading("Gather", [0], axis=0), None),
    "the first number of each": (reading("Slice", [[0], [1], [2]]), None),
    "a slice of two": (reading("Slice", [[0], [2], [1]]), None),
    "a slice backwards": (reading("Slice", [[0], [1], [1], [-1]]), None),
}


@pytest.mark.parametrize("case", READERS)
def test_what_is_read_is_found(tmp_path, case):
    change, read = READERS[case]
    assert row_read(opened(changed("bert", tmp_path / "model.onnx", change)).encoder) == read


def test_states_that_are_given_out_are_all_read(tmp_path):
    def change(model: ir.Model) -> None:
        states = model.graph.outputs[0]
        reading("Gather", [0], axis=1)(model)
        model.graph.outputs.append(states)

    assert row_read(opened(changed("bert", tmp_path / "model.onnx", change)).encoder) is None


def test_two_readers_of_different_rows_are_followed(tmp_path):
    def change(model: ir.Model) -> None:
        states = model.graph.outputs[0]
        reading("Gather", [0], axis=1)(model)
        first = model.graph.outputs[0]
        first.name = "first"
        model.graph.outputs[0] = states
        reading("Gather", [-1], axis=1)(model)
        model.graph.outputs.append(first)

    assert row_read(opened(changed("bert", tmp_path / "model.onnx", change)).encoder) is None


# ---- In 8 bits


def pair_of(root: Path, name: str, read: int, mode: str, coarse: bool = False) -> Int8Pair:
    if not exact_products(mode):
        pytest.skip("products of bytes are not exact on this processor: the original runs")
    folder = root / f"{name}{read}{coarse}"
    folder.mkdir(exist_ok=True)
    model = folder / "model.onnx"
    if not model.exists():
        changed(name, model, reading("Gather", [read], axis=1))
    return int8_pair(model, folder / "guarded", mode, None if coarse else MOST_APART, coarse=coarse)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models are made once."""
    return tmp_path_factory.mktemp("read")


@pytest.fixture
def pair(root: Path, mode: str, name: str, read: int) -> Int8Pair:
    """With all channels in floats: only what runs is another."""
    return pair_of(root, name, read, mode)


def check(pair: Int8Pair, request: Arrays) -> None:
    have, want = pair.ask(request), pair.want(request)
    assert have.shape == want.shape  # a row of padding may be all zeros
    assert (np.linalg.norm(have - want, axis=-1) <= SAME * np.linalg.norm(want, axis=-1)).all()


either = pytest.mark.parametrize("read", [FIRST, LAST])


@either
@pytest.mark.parametrize("name", ENCODERS)
def test_the_answer_is_the_originals(pair, name):
    some = random_samples(pair.before, (1, 2, 7, 33, 60), seed=5)
    for request in [*some, join(some[2:3] * 2)]:
        check(pair, request)
        assert_identical([pair.ask(request, 0.0)], [pair.want(request)])


@either
@pytest.mark.parametrize("name", [name for name in CORES if name != "vit"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_row_of_padding_that_is_read_runs(pair, side):
    """Where padding attends as tokens do, which it does not in DeBERTa: its row is what the original's is."""
    some = random_samples(pair.before, (3, 17, 1, 9), seed=6)
    for request in (join(some, side=side), join(some[:2], padded=40, side=side)):
        check(pair, request)


@either
@pytest.mark.parametrize("name", ["bert", "llama"])
@pytest.mark.parametrize("mode", ["stock"])
def test_coarse_products_read_the_same(root, name, read, mode):
    pair = pair_of(root, name, read, mode, coarse=True)
    (request,) = random_samples(pair.before, [17], seed=7)
    have, want = pair.ask(request), pair.want(request)
    assert np.linalg.norm(have - want) <= 0.1 * np.linalg.norm(want)


def test_the_last_layer_runs_one_row_of_each_sequence(root, mode, tmp_path):
    """Of its products all but those that make queries, keys and values."""
    pair_of(root, "bert", FIRST, mode)
    options = session_options(native=mode == "native", threads=1)
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    session = ort.InferenceSession(root / "bert0False" / "guarded" / "model.onnx", options)
    some = random_samples(session, (9, 12), seed=8)
    session.run(None, join(some))
    rows = [
        int(np.prod(next(iter(event["args"]["input_type_shape"][0].values()))[:-1]))
        for event in json.loads(Path(session.end_profiling()).read_text())
        if event.get("args", {}).get("op_name", "").startswith(("MemoProduct", "MatMulInteger"))
        and "MemoExact" not in event["name"]
    ]
    layers = len(opened(root / "bert0False" / "model.onnx").encoder.cores)
    assert rows == [21] * (4 * (layers - 1) + 1) + [2] * 3
