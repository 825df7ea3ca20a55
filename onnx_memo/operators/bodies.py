"""The standard-ONNX bodies of the operators (specified in `docs/operators.md`).

They serve where no native library is registered: ONNX Runtime inlines them. They are written for
the model's own opset version.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.rows_bodies import attention_body, grow_body, merge_body, rows_body
from onnx_memo.operators.spec import DOMAIN, SEGMENTS

ROWS = "states entry length stored influence offsets squares epsilon bound limit"
GROW = "states rows change predicted entry length stored influence offsets squares bound correction rollout"
ATTENTION = "query key value rows entry length padded_length keys values offsets scale bias"
MERGE = "states spread rows entry length padded_length final influence offsets squares"

Body = Callable[..., ir.Value | tuple[ir.Value, ...]]


def operator_functions(opset: int) -> list[ir.Function]:
    """All memo operators as model-local functions."""
    return [
        _function("MemoSegments", "mask", _segments, opset),
        _function("MemoLookup", "query length keys lengths threshold index", _lookup, opset),
        _function("MemoFetch", "entry payload offsets lengths padded_length", _fetch, opset),
        _function("MemoContext", "entry values payload offsets lengths", _context, opset),
        _function("MemoRows", ROWS, rows_body, opset),
        _function("MemoGrow", GROW, grow_body, opset),
        _function("MemoAttention", ATTENTION, attention_body, opset),
        _function("MemoMerge", MERGE, merge_body, opset),
    ]


def _function(name: str, inputs: str, body: Body, opset: int) -> ir.Function:
    arguments = [ir.val(argument) for argument in inputs.split()]
    builder = Builder(name, opset)
    result = body(builder, *arguments)
    outputs = [result] if isinstance(result, ir.Value) else list(result)
    graph = ir.Graph(arguments, outputs, nodes=builder.nodes, opset_imports={"": opset}, name=name)
    return ir.Function(DOMAIN, name, graph=graph, attributes=[])


def _segments(b: Builder, mask: ir.Value) -> tuple[ir.Value, ir.Value]:
    count = b.reduce("ReduceSum", mask, 1)
    end = b.op("Squeeze", b.dim(mask, 1))
    t = b.op("Range", b.const(0, np.int64), end, b.const(1, np.int64))  # [L]
    prefix = b.op("Less", t, b.op("Unsqueeze", count, b.i64(1)))
    differs = b.op("Not", b.op("Equal", mask, b.op("Cast", prefix, to=ir.DataType.INT64.value)))
    differing = b.reduce("ReduceSum", b.op("Cast", differs, to=ir.DataType.INT64.value), 1)
    regular = b.op("Equal", differing, b.const(0, np.int64))
    length = b.op("Where", regular, count, b.i64(-1))
    column = b.op("Unsqueeze", length, b.i64(1))
    segment = b.op("Div", b.op("Mul", t, b.i64(SEGMENTS)), b.op("Max", column, b.i64(1)))  # [B, L]
    segment = b.op("Where", b.op("Less", t, column), segment, b.i64(-1))
    numbers = b.const(np.arange(SEGMENTS)[:, None], np.int64)
    member = b.op("Equal", b.op("Unsqueeze", segment, b.i64(1)), numbers)
    weights = b.op("Cast", member, to=ir.DataType.FLOAT.value)
    tokens = b.reduce("ReduceSum", weights, 2, keepdims=True)
    return length, b.op("Div", weights, b.op("Max", tokens, b.const(1, np.float32)))


def _lookup(
    b: Builder,
    query: ir.Value,
    length: ir.Value,
    keys: ir.Value,
    lengths: ir.Value,
    threshold: ir.Value,
    index: ir.Value,
) -> tuple[ir.Value, ir.Value]:
    # ONNX Runtime folds the keys' norms when it loads the model.
    norms = b.reduce("ReduceSumSquare", keys, 0)  # [N]
    half = b.const(0.5, np.float32)
    nearness = b.op("Sub", b.op("MatMul", query, keys), b.op("Mul", norms, half))  # [B, N]
    column = b.op("Unsqueeze", length, b.i64(1))
    comparable = b.op("Equal", column, lengths)  # [B, N]
    nearness = b.op("Where", comparable, nearness, b.const(-np.inf, np.float32))
    best = b.op("ArgMax", nearness, axis=1, keepdims=0)  # [B]
    # The distance that decides comes from the difference: the expansion above cancels near zero.
    key = b.op("Transpose", b.op("Gather", keys, best, axis=1), perm=[1, 0])  # [B, k]
    distance = b.reduce("ReduceL2", b.op("Sub", query, key), 1)
    near = b.op("LessOrEqual", distance, threshold)  # false for NaN
    fits = b.op("Equal", b.op("Gather", lengths, best), length)
    entry = b.op("Where", b.op("And", near, fits), best, b.i64(-1))
    # The last row's number joins the entries: it is negative in an empty batch, which thus misses.
    last = b.op("Sub", b.op("Shape", entry), b.i64(1))
    worst = b.op("ReduceMin", b.op("Concat", entry, last, axis=0), keepdims=0)
    return entry, b.op("GreaterOrEqual", worst, b.const(0, np.int64))


def _fetch(
    b: Builder,
    entry: ir.Value,
    payload: ir.Value,
    offsets: ir.Value,
    lengths: ir.Value,
    padded_length: ir.Value,
) -> ir.Value:
    zero = b.const(0, np.int64)
    stored = b.op("Max", entry, zero)
    rows = b.op("Gather", lengths, stored)
    rows = b.op("Where", b.op("Less", entry, zero), zero, rows)  # [B]
    first = b.op("Gather", offsets, stored)  # [B]
    t = b.op("Range", zero, b.op("Squeeze", padded_length), b.const(1, np.int64))  # [L]
    inside = b.op("Less", t, b.op("Unsqueeze", rows, b.i64(1)))  # [B, L]
    row = b.op("Add", b.op("Unsqueeze", first, b.i64(1)), t)
    row = b.op("Where", inside, row, zero)
    # Gather first, cast after: the store itself is never cast.
    fetched = b.op("Cast", b.op("Gather", payload, row, axis=0), to=ir.DataType.FLOAT.value)
    return b.op("Where", b.op("Unsqueeze", inside, b.i64(2)), fetched, b.const(0, np.float32))


def _context(
    b: Builder,
    entry: ir.Value,
    values: ir.Value,
    payload: ir.Value,
    offsets: ir.Value,
    lengths: ir.Value,
) -> ir.Value:
    """A loop over the batch: entries differ in length, and an index tensor would be huge."""
    trips = b.op("Squeeze", b.dim(entry, 0))
    body = _context_of_row(b.opset, entry, values, payload, offsets, lengths)
    always = b.const(True, np.bool_)
    return b.op("Loop", trips, always, body=body)


def _context_of_row(
    opset: int,
    entry: ir.Value,
    values: ir.Value,
    payload: ir.Value,
    offsets: ir.Value,
    lengths: ir.Value,
) -> ir.Graph:
    b = Builder("MemoContext/row", opset)
    iteration = ir.val("MemoContext/row/iteration", ir.DataType.INT64, [])
    condition = ir.val("MemoContext/row/condition", ir.DataType.BOOL, [])
    zero = b.i64(0)
    one = b.i64(1)
    at = b.op("Reshape", iteration, one)
    e = b.op("Gather", entry, at)  # [1]
    missed = b.op("Less", e, zero)
    stored = b.op("Max", e, zero)
    n = b.op("Where", missed, one, b.op("Gather", lengths, stored))  # [1]
    first = b.op("Gather", offsets, stored)
    square = b.op("Slice", payload, first, b.op("Add", first, b.op("Mul", n, n)), zero)
    heads = b.dim(payload, 1)
    shape = b.op("Concat", heads, n, n, axis=0)
    probabilities = b.op("Cast", b.op("Reshape", square, shape), to=ir.DataType.FLOAT.value)
    own = b.op("Gather", values, b.op("Squeeze", at), axis=0)  # [L, H * dv]
    length, width = b.dim(own, 0), b.dim(own, 1)
    own = b.op("Slice", own, zero, n, zero)
    own = b.op("Reshape", own, b.op("Concat", n, heads, b.op("Div", width, heads), axis=0))
    own = b.op("Transpose", own, perm=[1, 0, 2])  # [H, n, dv]
    context = b.op("Transpose", b.op("MatMul", probabilities, own), perm=[1, 0, 2])
    context = b.op("Reshape", context, b.op("Concat", n, width, axis=0))
    behind = b.op("Concat", zero, zero, b.op("Sub", length, n), zero, axis=0)
    context = b.op("Pad", context, behind)  # [L, H * dv]
    context = b.op("Where", missed, b.const(0, np.float32), context)
    more = b.op("Identity", condition)
    return ir.Graph([iteration, condition], [more, context], nodes=b.nodes, name="row")
