"""What each kind of node does to rows: which axis holds them afterwards, and what is refused, and why."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import open_nodes

from onnx_memo.graph.rowwise import SIZED, Refused, RowRules, Rows, Table, packed_shape, reshaped
from onnx_memo.graph.shapes import BATCH

L, D = 6, 8
FLOAT = ir.DataType.FLOAT
STATES = (BATCH, L, D)


def value(name: str, *shape: int) -> tuple[ir.Value, tuple[int, ...]]:
    return ir.val(name, FLOAT, list(shape)), shape


def outcome(
    op: str,
    inputs: list[tuple[tuple[int, ...], Rows | None]],
    outputs: list[tuple[int, ...]],
    constants: dict[int, list[float]] | None = None,
    domain: str = "",
    **attributes: object,
) -> list[Rows]:
    """The forms of a node's outputs, by the shapes and forms of its inputs and the shapes of its outputs.

    `constants`: the numbers of inputs that are constant, by place.
    """
    values = [ir.val(f"in.{at}", FLOAT, list(shape)) for at, (shape, _) in enumerate(inputs)]
    node = ir.node(op, values, attributes, domain=domain, num_outputs=len(outputs), name="it")
    shapes = {f"in.{at}": shape for at, (shape, _) in enumerate(inputs)}
    for at, shape in enumerate(outputs):
        node.outputs[at].name = f"out.{at}"
        shapes[f"out.{at}"] = shape
    forms = {values[at]: form for at, (_, form) in enumerate(inputs) if form is not None}
    known = {values[at]: numbers for at, numbers in (constants or {}).items()}
    return RowRules(shapes, known.get).outputs(node, forms)


def refused(*arguments: object, **options: object) -> str:
    with pytest.raises(Refused) as found:
        outcome(*arguments, **options)
    return str(found.value)


ROWS = Rows(1)
MERGED = Rows(0, merged=True)


# ---- Elementwise


@pytest.mark.parametrize("op", ["Gelu", "Tanh", "Cast", "Sqrt", "Erf"])
def test_one_input_keeps_its_form(op):
    assert outcome(op, [(STATES, ROWS)], [STATES]) == [ROWS]
    assert outcome(op, [((BATCH * L, D), MERGED)], [(BATCH * L, D)]) == [MERGED]


@pytest.mark.parametrize("other", [(D,), (1,), (1, 1, D), (1, L, D), (L, D)])
def test_what_is_no_row_may_stand_beside_rows(other):
    assert outcome("Add", [(STATES, ROWS), (other, None)], [STATES]) == [ROWS]
    assert outcome("Add", [(other, None), (STATES, ROWS)], [STATES]) == [ROWS]


def test_rows_meet_on_one_axis():
    assert outcome("Add", [(STATES, ROWS), (STATES, ROWS)], [STATES]) == [ROWS]
    assert "joins rows on different axes" in refused(
        "Mul", [((BATCH, L, L), Rows(1)), ((BATCH, L, L), Rows(2))], [(BATCH, L, L)]
    )


def test_axes_are_counted_from_the_last_where_ranks_differ():
    four = (1, BATCH, L, D)
    assert outcome("Add", [(STATES, ROWS), (four, Rows(2))], [four]) == [Rows(2)]


def test_numbers_of_the_whole_tensor_have_no_axis():
    assert outcome("Mul", [((), Rows(None)), ((), None)], [()]) == [Rows(None)]
    assert outcome("Mul", [(STATES, ROWS), ((), Rows(None))], [STATES]) == [ROWS]


# ---- Tables of positions


def table_of(table: tuple[int, ...], form: Rows, out: tuple[int, ...]) -> Table | None:
    rows, other = ir.val("rows", FLOAT, list(out)), ir.val("table", FLOAT, list(table))
    node = ir.node("Mul", [rows, other], name="it")
    node.outputs[0].name = "out"
    rules = RowRules({"rows": out, "table": table, "out": out}, lambda _: None)
    return rules.table(other, node, form)


def axis_of(table: tuple[int, ...], form: Rows, out: tuple[int, ...]) -> int | None:
    """The axis of a table that all sequences share."""
    found = table_of(table, form, out)
    assert found is None or found.joined is None
    return found and found.axis


@pytest.mark.parametrize(
    ("table", "axis"),
    [((1, L, D), 1), ((L, D), 0), ((L, 1), 0), ((1, L, 1), 1), ((D,), None), ((1, 1, D), None), ((), None)],
)
def test_a_table_has_its_positions_on_the_rows_axis(table, axis):
    assert axis_of(table, ROWS, STATES) == axis


def test_a_table_over_heads_has_its_positions_where_the_rows_are():
    assert axis_of((1, 1, L, D), Rows(2), (BATCH, 4, L, D)) == 2
    assert axis_of((L, D), Rows(2), (BATCH, 4, L, D)) == 0
    assert axis_of((L, 1, D), Rows(1), (BATCH, L, 4, D)) == 0


def test_numbers_of_the_whole_tensor_need_no_table():
    assert axis_of((1, L, D), Rows(None), STATES) is None


@pytest.mark.parametrize(
    ("table", "form", "out", "axis"),
    [
        (STATES, ROWS, STATES, 1),
        ((BATCH, L, 1, 1), Rows(1), (BATCH, L, 4, D), 1),
        ((BATCH, 1, L, D), Rows(2), (BATCH, 4, L, D), 2),
        ((BATCH * L, 1), MERGED, (BATCH * L, D), 0),
    ],
)
def test_sequences_may_have_tables_of_their_own(table, form, out, axis):
    found = table_of(table, form, out)
    assert found is not None and found.axis == axis
    numbers = np.arange(math.prod(table)).reshape(table)
    sizes = [numbers.shape[at] if size == 0 else size for at, size in enumerate(found.joined)]
    rows = np.moveaxis(numbers.reshape(sizes), axis, 0).reshape(BATCH, L, -1)
    for sequence in range(BATCH):
        own = numbers.reshape(BATCH, L, -1) if form.merged else np.moveaxis(numbers, axis, 1)
        assert (rows[sequence] == own[sequence].reshape(L, -1)).all()


@pytest.mark.parametrize(
    ("table", "form", "out"),
    [
        ((1, 4, L, D), Rows(2), (BATCH, 4, L, D)),
        ((4, L, D), Rows(2), (BATCH, 4, L, D)),
        ((BATCH, 4, L, D), Rows(2), (BATCH, 4, L, D)),
    ],
)
def test_tables_by_head_are_refused(table, form, out):
    with pytest.raises(Refused, match="numbers of its own for more than every sequence and position"):
        table_of(table, form, out)


# ---- Along the last axis


@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization", "Softmax", "LogSoftmax"])
def test_what_works_along_the_last_axis_keeps_the_form(op):
    assert outcome(op, [(STATES, ROWS)], [STATES], axis=-1) == [ROWS]
    assert outcome(op, [(STATES, ROWS)], [STATES], axis=2) == [ROWS]
    assert "across rows" in refused(op, [(STATES, ROWS)], [STATES], axis=1)
    assert "across rows" in refused(op, [((BATCH, D, L), Rows(2))], [(BATCH, D, L)], axis=-1)


@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum", "ReduceL2"])
def test_reductions_behind_the_rows_keep_the_form(op):
    one = (BATCH, L, 1)
    assert outcome(op, [(STATES, ROWS)], [one], axes=[-1], keepdims=1) == [ROWS]
    assert outcome(op, [(STATES, ROWS), ((1,), None)], [one], {1: [2]}, keepdims=1) == [ROWS]


@pytest.mark.parametrize("axes", [[1], [-2], [0], [1, 2], None])
def test_reductions_over_rows_are_refused(axes):
    given_ = {} if axes is None else {"axes": axes}
    assert "works across rows" in refused("ReduceMean", [(STATES, ROWS)], [(BATCH, 1, D)], **given_)


def test_reductions_over_axes_that_are_not_constant_are_refused():
    assert "works across rows" in refused("ReduceMean", [(STATES, ROWS), ((1,), None)], [(BATCH, L, 1)])


# ---- Products


def test_products_with_a_weight_keep_the_form():
    assert outcome("MatMul", [(STATES, ROWS), ((D, 5), None)], [(BATCH, L, 5)]) == [ROWS]
    merged = [((BATCH * L, D), MERGED), ((D, 5), None), ((5,), None)]
    assert outcome("Gemm", merged, [(BATCH * L, 5)]) == [MERGED]
    integers = [(STATES, ROWS), ((D, 5), None), ((), Rows(None))]
    assert outcome("MatMulInteger", integers, [(BATCH, L, 5)]) == [ROWS]


def test_products_that_add_up_rows_are_refused():
    assert "joins rows with rows" in refused("MatMul", [(STATES, ROWS), (STATES, ROWS)], [(BATCH, L, L)])
    assert "adds up rows" in refused("MatMul", [((BATCH, D, L), Rows(2)), ((L, 5), None)], [(BATCH, D, 5)])
    turned = [((BATCH * L, D), MERGED), ((BATCH * L, 5), None)]
    assert "adds up rows" in refused("Gemm", turned, [(D, 5)], transA=1)
    assert "adds up rows" in refused("MatMul", [((5, L), None), (STATES, ROWS)], [STATES])


def test_products_of_rows_that_are_columns_keep_the_form():
    columns = (BATCH, 1, L)
    for left in ((BATCH, 5, 1), (1, 5, 1), (5, 1)):
        assert outcome("MatMul", [(left, None), (columns, Rows(2))], [(BATCH, 5, L)]) == [Rows(2)]
    more = refused("MatMul", [((4, BATCH, 5, 1), None), (columns, Rows(2))], [(4, BATCH, 5, L)])
    assert "adds up rows" in more


def test_what_rows_look_up_is_rows():
    assert outcome("Gather", [((64, D), None), ((BATCH, L), ROWS)], [STATES]) == [ROWS]
    assert outcome("Gather", [((64,), None), ((BATCH * L,), MERGED)], [(BATCH * L,)]) == [MERGED]
    moved = refused("Gather", [((D, 64), None), ((BATCH, L), ROWS)], [(D, BATCH, L)], axis=1)
    assert "moves the batch" in moved


def test_a_weight_by_sequence_is_refused():
    inputs = [(STATES, ROWS), ((BATCH, D, 5), None)]
    assert "a weight of its own for every sequence" in refused("MatMul", inputs, [(BATCH, L, 5)])


# ---- Moves


def test_transpose_moves_the_axis():
    heads = (BATCH, L, 2, 4)
    assert outcome("Transpose", [(heads, ROWS)], [(BATCH, 2, L, 4)], perm=[0, 2, 1, 3]) == [Rows(2)]
    assert outcome("Transpose", [(heads, ROWS)], [(BATCH, 2, 4, L)], perm=[0, 2, 3, 1]) == [Rows(3)]


@pytest.mark.parametrize("perm", [[1, 0, 2], [2, 1, 0], None])
def test_transpose_must_not_move_the_batch(perm):
    given_ = {} if perm is None else {"perm": perm}
    assert "moves the batch" in refused("Transpose", [(STATES, ROWS)], [(L, BATCH, D)], **given_)


def reshape(before: tuple[int, ...], after: tuple[int, ...], form: Rows) -> Rows:
    (found,) = outcome("Reshape", [(before, form), ((len(after),), None)], [after])
    return found


def test_reshape_splits_and_joins_what_is_behind_the_rows():
    assert reshape(STATES, (BATCH, L, 2, 4), ROWS) == ROWS
    assert reshape((BATCH, L, 2, 4), STATES, ROWS) == ROWS


def test_reshape_joins_the_batch_to_the_rows_and_splits_it_off():
    assert reshape(STATES, (BATCH * L, D), ROWS) == MERGED
    assert reshape((BATCH * L, D), STATES, MERGED) == ROWS
    assert reshape((BATCH * L, D), (BATCH * L, 2, 4), MERGED) == MERGED


def test_reshape_folds_heads_into_the_batch_and_back():
    assert reshape((BATCH, 2, L, 4), (BATCH * 2, L, 4), Rows(2)) == Rows(1)
    assert reshape((BATCH * 2, L, 4), (BATCH, 2, L, 4), Rows(1)) == Rows(2)


@pytest.mark.parametrize(
    ("before", "after", "form"),
    [
        (STATES, (BATCH, L * D), ROWS),
        (STATES, (BATCH, L // 2, 2 * D), ROWS),
        (STATES, (BATCH, D, L), ROWS),
        ((BATCH * L, D), (L, BATCH, D), MERGED),
        ((BATCH, 2, L, 4), (BATCH, 2 * L, 4), Rows(2)),
    ],
)
def test_reshape_must_not_tear_rows_apart(before, after, form):
    with pytest.raises(Refused, match="tears rows apart"):
        reshape(before, after, form)


@pytest.mark.parametrize("after", [(1, BATCH, L, D), (2, BATCH * 2, L, D)])
def test_reshape_must_not_move_the_batch(after):
    """In a batch of one, what becomes of its axis would not be known."""
    before = STATES if after[0] == 1 else (BATCH, 4, L, D)
    with pytest.raises(Refused, match="moves the batch"):
        reshape(before, after, Rows(len(before) - 2))


def test_reshape_of_a_single_number_is_refused():
    assert "single number" in refused("Reshape", [((1,), Rows(None)), ((1,), None)], [(1, 1)])


@pytest.mark.parametrize(
    ("op", "before", "after", "axes", "form", "want"),
    [
        ("Unsqueeze", STATES, (BATCH, 1, L, D), [1], ROWS, Rows(2)),
        ("Unsqueeze", STATES, (BATCH, L, 1, D), [-2], ROWS, ROWS),
        ("Squeeze", (BATCH, 1, L, D), STATES, [1], Rows(2), ROWS),
        ("Squeeze", (BATCH, L, D, 1), STATES, [-1], ROWS, ROWS),
    ],
)
def test_squeeze_and_unsqueeze_move_the_axis(op, before, after, axes, form, want):
    assert outcome(op, [(before, form), ((1,), None)], [after], {1: axes}) == [want]
    assert outcome(op, [(before, form)], [after], axes=axes) == [want]
    assert "axes that are not constant" in refused(op, [(before, form), ((1,), None)], [after])


def test_unsqueeze_must_not_move_the_batch():
    assert "moves the batch" in refused("Unsqueeze", [(STATES, ROWS)], [(1, *STATES)], axes=[0])


def expand(before: tuple[int, ...], after: tuple[int, ...], form: Rows) -> Rows:
    (found,) = outcome("Expand", [(before, form), ((len(after),), None)], [after])
    return found


def test_expand_repeats_what_is_beside_the_rows():
    assert expand((BATCH, 2, 1, L, 4), (BATCH, 2, 3, L, 4), Rows(3)) == Rows(3)
    assert expand((BATCH, L, 1), STATES, ROWS) == ROWS
    assert expand((BATCH * L, 1), (BATCH * L, D), MERGED) == MERGED
    assert expand(STATES, STATES, ROWS) == ROWS


@pytest.mark.parametrize(
    ("before", "after", "form", "why"),
    [
        ((BATCH, 1, D), STATES, ROWS, "repeats rows"),
        ((1, L, D), STATES, ROWS, "repeats rows"),
        (STATES, (2, *STATES), ROWS, "moves the batch"),
        ((1,), STATES, Rows(None), "moves the batch"),
    ],
)
def test_expand_must_not_repeat_rows_or_batch(before, after, form, why):
    with pytest.raises(Refused, match=why):
        expand(before, after, form)


# ---- Parts


def test_parts_along_other_axes_keep_the_form():
    halves = [(BATCH, L, D // 2)] * 2
    assert outcome("Split", [(STATES, ROWS)], halves, axis=-1) == [ROWS, ROWS]
    bounds = [(STATES, ROWS), ((1,), None), ((1,), None), ((1,), None)]
    assert outcome("Slice", bounds, halves[:1], {3: [2]}) == [ROWS]
    assert outcome("Gather", [(STATES, ROWS), ((3,), None)], [(BATCH, L, 3)], axis=2) == [ROWS]
    assert outcome("Concat", [(STATES, ROWS)] * 2, [(BATCH, L, 2 * D)], axis=-1) == [ROWS]


def test_a_single_index_in_front_of_the_rows_takes_its_axis_away():
    assert outcome("Gather", [((BATCH, 3, L, D), Rows(2)), ((), None)], [STATES], axis=1) == [ROWS]


@pytest.mark.parametrize("axis", [0, 1, -2])
def test_parts_along_rows_or_batch_are_refused(axis):
    assert "takes rows apart" in refused("Split", [(STATES, ROWS)], [(BATCH, 3, D)] * 2, axis=axis)
    assert "takes rows apart" in refused("Gather", [(STATES, ROWS), ((1,), None)], [(BATCH, 1, D)], axis=axis)
    bounds = [(STATES, ROWS), ((1,), None), ((1,), None), ((1,), None)]
    assert "takes rows apart" in refused("Slice", bounds, [(BATCH, 3, D)], {3: [axis]})


def test_a_slice_along_axes_that_are_not_constant_is_refused():
    bounds = [(STATES, ROWS), ((1,), None), ((1,), None), ((1,), None)]
    assert "axes that are not constant" in refused("Slice", bounds, [STATES])
    assert "axes that are not constant" in refused("Slice", bounds[:3], [STATES])


@pytest.mark.parametrize("axis", [0, 1, -2])
def test_concat_of_rows_is_refused(axis):
    assert "joins rows with something else" in refused(
        "Concat", [(STATES, ROWS)] * 2, [(BATCH, 2 * L, D)], axis=axis
    )


def test_concat_of_rows_with_something_else_is_refused():
    inputs = [(STATES, ROWS), ((BATCH, L, 3), None)]
    assert "joins rows with something else" in refused("Concat", inputs, [(BATCH, L, D + 3)], axis=-1)


# ---- Others


def test_quantization_has_numbers_of_the_whole_tensor():
    forms = outcome("DynamicQuantizeLinear", [(STATES, ROWS)], [STATES, (), ()])
    assert forms == [ROWS, Rows(None), Rows(None)]


@pytest.mark.parametrize(
    "op", ["Conv", "MaxPool", "CumSum", "Pad", "Tile", "ScatterND", "Einsum", "LSTM", "TopK"]
)
def test_what_is_not_known_is_refused(op):
    assert f"'it' ({op}) is not known to work row by row" in refused(op, [(STATES, ROWS)], [STATES])


def test_other_domains_are_refused():
    assert "of the domain 'mine'" in refused("Gelu", [(STATES, ROWS)], [STATES], domain="mine")


def test_shapes_that_are_not_known_are_refused():
    states = ir.val("states", FLOAT)
    node = ir.node("Gelu", [states], name="it")
    node.outputs[0].name = "out"
    for shapes in ({}, {"states": STATES}, {"states": STATES, "out": (BATCH, None, D)}):
        with pytest.raises(Refused, match="shape of 'out' cannot be inferred"):
            RowRules(shapes, lambda _: None).outputs(node, {states: ROWS})


@pytest.mark.parametrize(
    ("form", "shape", "want"),
    [
        (ROWS, STATES, [1, -1, D]),
        (MERGED, (BATCH * L, D), [-1, D]),
        (Rows(1), (BATCH * 4, L, D), [4, -1, D]),
        (Rows(3), (BATCH, 4, D, L), [1, 4, D, -1]),
    ],
)
def test_packed_rows_are_a_batch_of_one(form, shape, want):
    assert packed_shape(form, shape) == want
    if not form.merged:
        alone = shape[0] // BATCH, *shape[1:]
        assert packed_shape(form, alone, batch=1) == want


def test_in_a_batch_of_one_rows_may_lead():
    """There is no telling, and no need to tell, whether a batch was joined to them."""
    assert reshaped(ROWS, (1, L, D), (L, D), "it", batch=1) == Rows(0)
    assert packed_shape(Rows(0), (L, D), batch=1) == [-1, D]
    assert reshaped(Rows(0), (L, D), (1, L, D), "it", batch=1) == ROWS


# ---- The meaning: on some rows a chain of nodes gives the same as on all


class Chain:
    """A random chain of nodes that `RowRules` takes, over rows [BATCH, L, D], grown node by node."""

    def __init__(self, draw) -> None:
        self.draw, self.rng = draw, np.random.default_rng(draw(st.integers(0, 1000)))
        self.input = ir.val("x", FLOAT, list(STATES))
        self.nodes: list[ir.Node] = []
        self.shapes: dict[str, tuple[int, ...]] = {"x": STATES}
        self.known: dict[ir.Value, np.ndarray] = {}
        self.last, self.shape = self.input, STATES
        self.forms = {self.input: ROWS}

    def grow(self) -> None:
        form = self.forms[self.last]
        steps = [self.gelu, self.bias, self.residual]
        if form.axis != len(self.shape) - 1:
            steps += [self.product, self.softmax, self.mean]
        if not form.merged:
            steps += [self.transpose, self.heads, self.fold, self.repeat]
        self.draw(st.sampled_from(steps))()

    def add(self, op: str, shape: tuple[int, ...], *others: ir.Value, **attributes: object) -> None:
        node = ir.node(op, [self.last, *others], attributes, name=f"node.{len(self.nodes)}")
        node.outputs[0].name = f"v.{len(self.nodes)}"
        self.shapes[node.outputs[0].name] = shape
        (form,) = RowRules(self.shapes, self.constant).outputs(node, self.forms)
        self.forms[node.outputs[0]] = form
        self.nodes.append(node)
        self.last, self.shape = node.outputs[0], shape

    def constant(self, value: ir.Value) -> list[float] | None:
        return self.known[value].ravel().tolist() if value in self.known else None

    def weight(self, array: np.ndarray) -> ir.Value:
        made = ir.node("Constant", [], {"value": ir.tensor(array)}).outputs[0]
        made.name = f"w.{len(self.nodes)}"
        self.shapes[made.name] = array.shape
        self.known[made] = array
        self.nodes.append(made.producer())
        return made

    def numbers(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32)

    def gelu(self) -> None:
        self.add("Tanh", self.shape)

    def bias(self) -> None:
        size = 1 if self.forms[self.last].axis == len(self.shape) - 1 else self.shape[-1]
        self.add("Add", self.shape, self.weight(self.numbers(size)))

    def residual(self) -> None:
        self.add("Mul", self.shape, self.last)

    def product(self) -> None:
        self.add("MatMul", (*self.shape[:-1], 4), self.weight(self.numbers(self.shape[-1], 4)))

    def softmax(self) -> None:
        self.add("Softmax", self.shape, axis=-1)

    def mean(self) -> None:
        self.add("ReduceMean", (*self.shape[:-1], 1), axes=[len(self.shape) - 1], keepdims=1)

    def transpose(self) -> None:
        order = [0, *self.draw(st.permutations(range(1, len(self.shape))))]
        self.add("Transpose", tuple(self.shape[axis] for axis in order), perm=order)

    def heads(self) -> None:
        self.reshape((*self.shape, 1) if len(self.shape) < 5 else self.shape)

    def fold(self) -> None:
        if self.forms[self.last].axis == 1 and len(self.shape) > 2:
            self.reshape((self.shape[0] * self.shape[1], *self.shape[2:]))

    def repeat(self) -> None:
        """Whatever is 1 becomes 2."""
        kept = 0, self.forms[self.last].axis
        after = tuple(2 if n == 1 and at not in kept else n for at, n in enumerate(self.shape))
        self.add("Expand", after, self.weight(np.asarray(after, np.int64)))

    def reshape(self, after: tuple[int, ...]) -> None:
        self.add("Reshape", after, self.weight(np.asarray(after, np.int64)))

    def run(self, states: np.ndarray, packed: bool) -> np.ndarray:
        """The result on `states`; `packed`: sizes as they are for a batch of one with fewer rows."""
        twins: dict[ir.Value, ir.Value] = {self.input: ir.val("x", FLOAT, list(states.shape))}
        nodes = []
        for node in self.nodes:
            attributes = dict(node.attributes)
            result = node.outputs[0]
            reader = result.uses()[0].node if result.uses() else node
            if packed and node.op_type == "Constant" and reader.op_type in SIZED:
                (made,) = reader.outputs
                target = packed_shape(self.forms[made], self.shapes[made.name])
                target = np.abs(target) if reader.op_type == "Expand" else target
                attributes = {"value": ir.AttrTensor("value", ir.tensor(np.asarray(target, np.int64)))}
            twin = ir.Node("", node.op_type, [twins[v] for v in node.inputs], list(attributes.values()))
            twin.outputs[0].name = result.name
            twins[result] = twin.outputs[0]
            nodes.append(twin)
        out = twins[self.last]
        out.type = ir.TensorType(FLOAT)
        return open_nodes([twins[self.input]], nodes, [out], 17).run(None, {"x": states})[0]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_on_some_rows_a_chain_gives_the_rows_of_all(data):
    chain = Chain(data.draw)
    for _ in range(data.draw(st.integers(1, 6))):
        chain.grow()
    states = chain.numbers(*STATES)
    form = chain.forms[chain.last]
    everything = chain.run(states, packed=False)
    if form.merged:
        everything = everything.reshape(BATCH, L, *everything.shape[1:])
    axis = 1 if form.merged else form.axis
    b = data.draw(st.integers(0, BATCH - 1))
    rows = sorted(data.draw(st.sets(st.integers(0, L - 1), min_size=1)))
    some = chain.run(states[b : b + 1, rows], packed=True)
    some = some[None] if form.merged else some
    want = np.take(everything[b : b + 1], rows, axis=axis)
    np.testing.assert_allclose(some, want, rtol=1e-4, atol=1e-5)


@given(
    st.sampled_from([1, BATCH]),
    st.lists(st.sampled_from([1, 2, 3, 4, 6, 8]), min_size=2, max_size=4),
    st.data(),
)
@settings(max_examples=200, deadline=None)
def test_where_a_reshape_says_the_rows_are_they_are(batch, dims, data):
    """Every number of one row is found at that row's place, and nowhere else."""
    before = (batch, L, *dims[2:])
    axis = data.draw(st.integers(1, len(before) - 1))
    total = int(np.prod(before))
    first = data.draw(st.sampled_from([n for n in range(1, total + 1) if total % n == 0]))
    second = data.draw(st.sampled_from([n for n in range(1, total // first + 1) if total // first % n == 0]))
    after = (first, second, total // first // second)
    try:
        form = reshaped(Rows(axis), before, after, "it", batch)
    except Refused:
        return
    marks = np.broadcast_to(
        np.arange(before[axis]).reshape(-1, *[1] * (len(before) - axis - 1)), before
    ).reshape(after)
    if form.merged:
        marks = marks.reshape(batch, L, *after[1:])
    want_axis = 1 if form.merged else form.axis
    for at in range(before[axis]):
        assert (np.take(marks, at, axis=want_axis) == at).all()
