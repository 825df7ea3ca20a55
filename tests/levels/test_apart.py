"""A batch of which some sequences repeat a stored input: these are reused, the others computed, once each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import (
    Arrays,
    assert_identical,
    changed,
    fix_sizes,
    fixture,
    join,
    memoized,
    open_nodes,
    original,
    random_samples,
    variants,
    write_samples,
)

import onnx_memo
from onnx_memo import verify
from onnx_memo.graph.build import Builder
from onnx_memo.graph.by_sequence import Reads
from onnx_memo.graph.flow import inputs_of
from onnx_memo.levels.apart import Chosen, distinct_of, run_apart
from onnx_memo.levels.registry import level_of
from onnx_memo.sessions import open_session
from onnx_memo.store.bundle import read_bundle

REPEAT = 2e-3  # of the largest number: what is stored in half precision comes back with less
BEYOND = ["bert", "bert_dynamo", "distilbert", "mpnet", "llama", "deberta_v2", "xlm", "vit"]
MASKED = [("bert", "output"), ("bert", "probs"), *((name, "rows") for name in BEYOND)]
AS_A_WHOLE = ["deberta_v2"]  # a branch of its own tells what its attention reads
everywhere = pytest.mark.parametrize(("name", "level"), MASKED)


def unseen(name: str, lengths: Sequence[int]) -> list[Arrays]:
    return random_samples(original(fixture(name)), lengths, seed=99)


def real(request: Arrays, row: int, states: np.ndarray) -> np.ndarray:
    """What a sequence has in its own tokens."""
    mask = request.get("attention_mask")
    return states[row] if mask is None else states[row][mask[row] == 1]


def assert_reused(request: Arrays, have: np.ndarray, want: np.ndarray, row: int) -> None:
    have, want = real(request, row, have), real(request, row, want)
    assert np.abs(have - want).max() <= REPEAT * np.abs(want).max()


@everywhere
def test_some_of_a_batch_are_reused_and_the_others_computed(made, mode, name, level):
    source = made(name, level)
    before, after = original(source.model), memoized(source.bundle, mode)
    stored, fresh = source.samples[3:6], unseen(name, [6, 9, 4])
    request = join([fresh[0], stored[0], stored[2], fresh[1], fresh[2], stored[1]], padded=11)
    want, have = before.run(None, request), after.run(None, request)
    for row in (0, 3, 4):  # to the last bit, as the original has them in this batch, padding included
        assert_identical([output[row] for output in have], [output[row] for output in want])
    for row in (1, 2, 5):
        assert_reused(request, have[0], want[0], row)


@everywhere
def test_nothing_of_a_batch_reused_is_the_original(made, mode, name, level):
    source = made(name, level)
    before, after = original(source.model), memoized(source.bundle, mode)
    request = join([*unseen(name, [6, 9, 4]), source.samples[4]])
    off = {"memo_strictness": np.zeros((), np.float32)}
    assert_identical(after.run(None, request | off), before.run(None, request))
    request = join(unseen(name, [6, 9, 4]))
    assert_identical(after.run(None, request), before.run(None, request))


@everywhere
def test_equal_sequences_of_a_batch_get_equal_answers(made, mode, name, level):
    source = made(name, level)
    before, after = original(source.model), memoized(source.bundle, mode)
    one, other, longer = unseen(name, [6, 6, 9])
    request = join([one, other, one, source.samples[4], longer, one, other])
    want, have = before.run(None, request), after.run(None, request)
    for row in (0, 1, 2, 4, 5, 6):
        assert_identical([output[row] for output in have], [output[row] for output in want])
    assert_reused(request, have[0], want[0], 3)


@pytest.mark.parametrize("level", ["rows", "output", "probs"])
def test_equal_tokens_with_other_masks_are_not_equal(made, mode, level):
    source = made("bert", level)
    before, after = original(source.model), memoized(source.bundle, mode)
    (one,) = unseen("bert", [8])
    shorter = one | {"attention_mask": (np.arange(8) < 5).astype(np.int64)[None]}
    holes = one | {"attention_mask": np.array([[1, 1, 0, 1, 1, 1, 0, 1]])}
    request = join([one, shorter, holes, one, shorter])
    assert_identical(after.run(None, request), before.run(None, request))


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=9),
    st.integers(0, 6),
    st.sampled_from(["rows", "output", "probs"]),
)
def test_any_mixture_in_any_order(made, picks, more, level):
    """0 to 5 are stored, the others are not; some come more than once."""
    source = made("bert", level)
    before, after = original(source.model), memoized(source.bundle, "native")
    pool = [*source.samples[3:9], *unseen("bert", [5, 7, 8, 9])]
    request = join([pool[pick] for pick in picks], padded=23 + more)
    want, have = before.run(None, request)[0], after.run(None, request)[0]
    for row, pick in enumerate(picks):
        if pick < 6:
            assert_reused(request, have, want, row)
        elif len(picks) > 1:
            assert have[row].tobytes() == want[row].tobytes()


@pytest.mark.parametrize(("name", "level"), [pair for pair in MASKED if pair[0] not in AS_A_WHOLE])
def test_what_is_reused_is_told_sequence_by_sequence(made, mode, name, level):
    source = made(name, level)
    model, guards = ir.load(source.bundle / "model.onnx"), read_bundle(source.bundle).sites
    watch = level_of(guards).watch(model, guards)
    session = open_session(model, source.bundle, onnx_memo.session_options(native=mode == "native"))
    request = join([*unseen(name, [6]), *source.samples[3:5], *unseen(name, [9])])
    reuse = watch.read(session.run(None, request))
    for hits in reuse.hits.values():
        assert hits.tolist() == [False, True, True, False]


@pytest.mark.parametrize("name", AS_A_WHOLE)
def test_where_a_batch_is_not_taken_apart_that_is_said(made, mode, name):
    source = made(name, "rows")
    told = "a batch of which only some inputs are stored runs as a whole: what it reads is not taken apart"
    assert told in read_bundle(source.bundle).notes
    request = join([*source.samples[3:5], *unseen(name, [6])])
    before, after = original(source.model), memoized(source.bundle, mode)
    assert_identical(after.run(None, request), before.run(None, request))


def test_the_region_stands_in_the_graph_once_and_no_product_in_an_inner_branch(made):
    """There ONNX Runtime does not rearrange the weights of products."""
    source = made("bert", "rows")
    before, after = ir.load(source.model), ir.load(source.bundle / "model.onnx")
    weights = set(before.graph.initializers)

    def products(nodes: Iterable[ir.Node]) -> list[str]:
        return [
            str(node.name)
            for node in nodes
            if node.op_type in ("MatMul", "Gemm") and any(value.name in weights for value in inputs_of(node))
        ]

    (guard,) = [node for node in after.graph if node.op_type == "If" and node.name.startswith("memo/")]
    computed = guard.attributes["else_branch"].as_graph()
    outside = products(after.graph)
    assert sorted(products(computed) + outside) == sorted(products(before.graph))
    assert len(products(after.graph.all_nodes())) == len(products(before.graph))


def test_a_fixed_batch_has_nothing_that_runs_apart(tmp_path):
    model = changed("bert", tmp_path / "model.onnx", lambda model: fix_sizes(model, 9, 1))
    data = write_samples(tmp_path / "data.npz", random_samples(original(model), [9] * 4, seed=1))
    bundle = onnx_memo.optimize(model, data, tmp_path / "bundle").path
    assert not run_apart(ir.load(bundle / "model.onnx"))


ASKED = [{"level": "rows"}, {"level": "output"}, {"level": "probs", "threshold": 0.3}]
ASKED += [{"level": "output", "tolerance": 0.3}]


@pytest.mark.usefixtures("everything_pays")
@pytest.mark.parametrize("asked", ASKED)
def test_a_batch_that_is_put_together_wrongly_is_found(tmp_path, monkeypatch, asked):
    """The check of the bundle finds it, whatever is asked for; then the batch runs as a whole."""
    right = Chosen.put

    def turned(chosen: Chosen, b: Builder, reused: ir.Value, ran: ir.Value) -> ir.Value:
        first, others = b.op("Slice", ran, b.i64(0), b.i64(1)), b.op("Slice", ran, b.i64(1), b.i64(99))
        return right(chosen, b, reused, b.op("Concat", others, first, axis=0))

    data = write_samples(tmp_path / "data.npz", variants(240, seed=1))
    good = onnx_memo.optimize(fixture("bert"), data, tmp_path / "good", **asked)
    assert run_apart(ir.load(good.path / "model.onnx"))
    monkeypatch.setattr(Chosen, "put", turned)
    bad = onnx_memo.optimize(fixture("bert"), data, tmp_path / "bad", **asked)
    assert not run_apart(ir.load(bad.path / "model.onnx"))
    assert bad.manifest.notes[-1].startswith("a batch of which only some inputs are stored runs as a whole: ")


@pytest.mark.parametrize("level", ["rows", "output"])
def test_where_fewer_sequences_get_other_bits_the_batch_runs_as_a_whole(tmp_path, monkeypatch, level):
    """As ONNX Runtime's products may, of some processors; here the check is told so, once."""
    told = []

    def check(*arguments):
        if not told:
            told.append(arguments)
            raise verify.Mixed("it differs", "send requests one by one")
        return 0.0

    monkeypatch.setattr(verify, "_check_mixed", check)
    samples = random_samples(original(fixture("bert")), [5, 7, 9], seed=1)
    data = write_samples(tmp_path / "data.npz", samples)
    bundle = onnx_memo.optimize(fixture("bert"), data, tmp_path / "bundle", level=level).path
    assert told
    assert not run_apart(ir.load(bundle / "model.onnx"))
    assert read_bundle(bundle).notes[-1] == (
        "a batch of which only some inputs are stored runs as a whole: it differs"
    )
    before, after = original(fixture("bert")), memoized(bundle, "native")
    request = join([samples[1], *unseen("bert", [7])])
    assert_identical(after.run(None, request), before.run(None, request))


# ---- Equal sequences run once


KEYS, STATES = np.eye(4, 8, dtype=np.float32), np.arange(4 * 3 * 2, dtype=np.float32).reshape(4, 3, 2)


def ran(key: np.ndarray, states: np.ndarray, missing: Sequence[bool]) -> tuple[list[int], list[float]]:
    """The numbers of the sequences that run, and at each missing one the number of that which ran for it."""
    b = Builder("chosen", 17)
    given = [ir.val("key", ir.DataType.FLOAT, ["b", 8]), ir.val("states", ir.DataType.FLOAT, ["b", 3, 2])]
    misses = ir.val("missing", ir.DataType.BOOL, ["b"])
    chosen = distinct_of(b, misses, given[0], Reads(given[1], (given[1],), (), ()))
    nothing = b.op("Cast", b.op("Cast", misses, to=ir.DataType.INT64.value), to=ir.DataType.FLOAT.value)
    each = chosen.put(b, nothing, b.op("Cast", chosen.numbers, to=ir.DataType.FLOAT.value))
    session = open_nodes([*given, misses], b.nodes, [chosen.numbers, each], 17)
    numbers, own = session.run(None, {"key": key, "states": states, "missing": np.asarray(missing)})
    return numbers.tolist(), [float(one) for one, missed in zip(own, missing, strict=True) if missed]


def test_distinct_sequences_all_run():
    assert ran(KEYS + np.arange(4)[:, None].astype(np.float32), STATES, [True] * 4) == (
        [0, 1, 2, 3],
        [0, 1, 2, 3],
    )


def test_the_first_of_equal_ones_runs_for_all():
    order = [0, 1, 0, 1, 1]
    keys = KEYS * np.arange(1, 5, dtype=np.float32)[:, None]
    assert ran(keys[order], STATES[order], [True] * 5) == ([0, 1], [0, 1, 0, 1, 1])


def test_an_equal_key_does_not_make_sequences_equal():
    order = [0, 1, 0]
    assert ran(KEYS[[0, 0, 0]], STATES[order], [True] * 3) == ([0, 1], [0, 1, 0])


def test_what_is_reused_runs_for_no_other():
    """Equal ones are reused all, or none; were it otherwise, each that misses would run."""
    assert ran(KEYS[[0, 0, 0]], STATES[[0, 0, 0]], [False, True, True]) == ([1, 2], [1, 2])


def test_nan_is_equal_to_nothing():
    keys, states = np.full((3, 8), np.nan, np.float32), STATES[[0, 0, 0]].copy()
    assert ran(keys, STATES[:3], [True] * 3) == ([0, 1, 2], [0, 1, 2])
    states[:, 1, 1] = np.nan
    assert ran(KEYS[[0, 0, 0]], states, [True] * 3) == ([0, 1, 2], [0, 1, 2])


# ---- One mask for all


@pytest.mark.parametrize(("name", "level"), [("bert", "rows"), ("bert", "output"), ("distilbert", "rows")])
@pytest.mark.parametrize("shape", [(1, 9), (1, 1)])
def test_one_mask_may_stand_for_all(made, mode, name, level, shape):
    """As ONNX broadcasts it."""
    source = made(name, level)
    before, after = original(source.model), memoized(source.bundle, mode)
    stored = next(each for each in source.samples if each["input_ids"].shape[1] == 9)
    request = join([*unseen(name, [9]), stored, *unseen(name, [9])[:1]])
    request |= {"attention_mask": np.ones(shape, np.int64)}
    want, have = before.run(None, request)[0], after.run(None, request)[0]
    assert have.shape == want.shape
    assert have[[0, 2]].tobytes() == want[[0, 2]].tobytes()
    assert np.abs(have[1] - want[1]).max() <= REPEAT * np.abs(want).max()
