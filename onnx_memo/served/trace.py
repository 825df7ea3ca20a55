"""Make a guarded model give more than its answer: what its lookups and `MemoRows` saw and chose.

Each lookup gets a twin without a threshold, which finds the nearest entry also where it is too far, and
`MemoRows` one without a limit, which says what would run also where that is too much. Twins change nothing of
what the model itself does. Names begin with `memo/explain/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.probe import add_outputs
from onnx_memo.levels.inserter import entry_name
from onnx_memo.levels.int8.guard import RAN
from onnx_memo.levels.literal import hit_name
from onnx_memo.levels.rows.attention import count_layers
from onnx_memo.levels.rows.layout import stored_name
from onnx_memo.levels.rows.repeats import HIT, NAME, ROWS
from onnx_memo.operators.spec import DOMAIN
from onnx_memo.store.manifest import GuardedSite

PREFIX = "memo/explain"
Results = Mapping[str, npt.NDArray[Any]]  # of one run, by the outputs' names


class LookupTrace:
    """Of one lookup: what it found, and what was nearest.

    Outputs that are added: `names` with `entry` i64[1], `nearest` i64[1], `query` f32[1, k], `key` f32[k, 1]
    of the nearest, `threshold` and `length` i64[1]; unless it alone decides, `hit`.

    Attributes:
        by_lookup: whether an entry that was found is reused; else `hit` says whether it is.
    """

    def __init__(self, model: ir.Model, guard: GuardedSite) -> None:
        self.guard = guard
        node = _values(model)[entry_name(guard.name)].producer()
        assert node is not None and node.op_type == "MemoLookup", "an entry is found by a lookup"
        query, length, keys, lengths, threshold, index = node.inputs
        b = Builder(f"{PREFIX}/{guard.name}", model.opset_imports[""])
        far = b.const(np.finfo(np.float32).max, np.float32)
        self.nearest, _ = b.ops(
            "MemoLookup",
            *(query, length, keys, lengths, far, index),
            domain=DOMAIN,
            names=(f"{b.prefix}/nearest", f"{b.prefix}/found"),
        )
        wanted = {
            "entry": (node.outputs[0], ir.DataType.INT64),
            "nearest": (self.nearest, ir.DataType.INT64),
            "query": (query, ir.DataType.FLOAT),
            "key": (b.op("Gather", keys, self.nearest, axis=1), ir.DataType.FLOAT),
            "threshold": (threshold, ir.DataType.FLOAT),
            "length": (length, ir.DataType.INT64),
        }
        hit = _values(model).get(hit_name(guard.name))
        self.by_lookup = hit is None
        if hit is not None:
            wanted["hit"] = hit, ir.DataType.BOOL
        self.names = _give(model, b, wanted)

    def value(self, results: Results, what: str) -> npt.NDArray[Any]:
        """What a run gave, one of `names`."""
        return results[self.names[what]]


class RowsTrace:
    """Of `MemoRows` and each `MemoGrow`.

    Outputs that are added: `names` with `hit`; `rows.S` i64[R] of each stage S; `change` f32[1, L] and
    `predicted.0`, of the twin, and `predicted.S` of each later stage; `would` i64[R], the rows of the first
    stage without a limit; `epsilon`, `bound`, `limit`.

    Attributes:
        layers: of the encoder; 0 where only literal repeats are reused.
        firsts: the first layer of each stage.
    """

    def __init__(self, model: ir.Model, lookup: LookupTrace) -> None:
        values = _values(model)
        node = values[ROWS].producer()
        assert node is not None and node.op_type == "MemoRows", "rows are chosen by MemoRows"
        states, _, length, stored, influence, offsets, squares, epsilon, _, limit = node.inputs
        bound = model.graph.initializers[stored_name("bound")]
        later = [name for name in values if name.startswith(f"{ROWS}.")]
        b = Builder(f"{PREFIX}/rows", model.opset_imports[""])
        all_rows = b.const(2, np.float32)
        would, _, _, _, change, predicted = b.ops(
            "MemoRows",
            *(states, lookup.nearest, length, stored, influence, offsets, squares, epsilon, bound, all_rows),
            domain=DOMAIN,
            names=[f"{b.prefix}/{part}" for part in ("would", "of", "hit", "all_hit", "change", "predicted")],
        )
        wanted = {
            "hit": (values[HIT], ir.DataType.BOOL),
            "would": (would, ir.DataType.INT64),
            "change": (change, ir.DataType.FLOAT),
            "epsilon": (epsilon, ir.DataType.FLOAT),
            "bound": (bound, ir.DataType.FLOAT),
            "limit": (limit, ir.DataType.FLOAT),
            "rows.0": (values[ROWS], ir.DataType.INT64),
            "predicted.0": (predicted, ir.DataType.FLOAT),
        }
        for stage, (name, now) in enumerate(zip(later, _predictions(values, later), strict=True), 1):
            wanted[f"rows.{stage}"] = (values[name], ir.DataType.INT64)
            wanted[f"predicted.{stage}"] = (now, ir.DataType.FLOAT)
        self.firsts = [0, *(int(name.removeprefix(f"{ROWS}.")) for name in later)]
        self.layers = count_layers(model)
        self.names = _give(model, b, wanted)

    def value(self, results: Results, what: str) -> npt.NDArray[Any]:
        """What a run gave, one of `names`."""
        return results[self.names[what]]


def trace_model(model: ir.Model, guards: Sequence[GuardedSite]) -> tuple[list[LookupTrace], RowsTrace | None]:
    """Add outputs to a guarded model, which is changed, after its own.

    Where nothing looks up, that is whether the guarded layers ran in 8 bits, the value `RAN`.
    """
    lookups = [LookupTrace(model, guard) for guard in guards if guard.lookup]
    if not lookups:
        add_outputs(model, [_values(model)[RAN]], ir.DataType.BOOL)
    is_rows = bool(lookups) and [guard.name for guard in guards] == [NAME]
    return lookups, RowsTrace(model, lookups[0]) if is_rows else None


def _values(model: ir.Model) -> dict[str, ir.Value]:
    return {str(value.name): value for node in model.graph for value in node.outputs}


def _give(
    model: ir.Model, b: Builder, wanted: Mapping[str, tuple[ir.Value | None, ir.DataType]]
) -> dict[str, str]:
    """Make copies of values outputs, and return their names: the values may be inputs or constants."""
    copies = {}
    for what, (value, dtype) in wanted.items():
        copy = b.op("Identity", value, name=f"{b.prefix}/given/{what}")
        copy.type = ir.TensorType(dtype)
        copies[what] = copy
    model.graph.extend(b.nodes)
    add_outputs(model, copies.values())
    return {what: str(copy.name) for what, copy in copies.items()}


def _predictions(values: Mapping[str, ir.Value], later: Sequence[str]) -> list[ir.Value]:
    """What each `MemoGrow` predicts, f32[1, L], brought out of the branch that runs; else f32[0, 0]."""
    if not later:
        return []
    node = values[later[0]].producer()
    assert node is not None and node.op_type == "If", "rows grow in a branch"
    run, nothing = (node.attributes[name].as_graph() for name in ("then_branch", "else_branch"))
    grows = [each for each in run if each.op_type == "MemoGrow"]
    count = len(node.outputs)
    node.resize_outputs(count + len(grows))
    for at, grow in enumerate(grows):
        b = Builder(f"{PREFIX}/nothing.{at}", 17)
        none, now, out = b.const(np.zeros((0, 0)), np.float32), grow.outputs[3], node.outputs[count + at]
        for value in (now, none, out):
            value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([None, None])
        nothing.extend(b.nodes)
        nothing.outputs.append(none)
        run.outputs.append(now)
        out.name = f"{PREFIX}/predicted.{at + 1}"
    return list(node.outputs[count:])
