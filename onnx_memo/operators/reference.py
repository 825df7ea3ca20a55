"""The operators in plain NumPy: their specification in code (`docs/operators.md` in words).

Native kernels and standard bodies are tested against this module. `run_in_python` makes a bundle
use these functions at run time, through onnxruntime-extensions, so that a policy of your own can
be tried in Python before it is written in C++.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from onnx_memo.errors import MemoError
from onnx_memo.operators.reference_rows import memo_attention, memo_grow, memo_merge, memo_rows
from onnx_memo.operators.spec import DOMAIN, SEGMENTS
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session
from onnx_memo.store.bundle import MODEL

Floats = npt.NDArray[np.float32]
Payload = npt.NDArray[np.float16] | npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

# The only domain in which onnxruntime-extensions runs operators written in Python.
PYTHON_DOMAIN = "ai.onnx.contrib"


def memo_segments(mask: Integers) -> tuple[Integers, Floats]:
    """The real length of each row of a mask [B, L], and their segments' weights [B, SEGMENTS, L].

    A row counts if it is ones followed by zeros; the length of any other is -1, its weights are zero.
    """
    batch, count = mask.shape
    length = np.full(batch, -1, np.int64)
    weights = np.zeros((batch, SEGMENTS, count), np.float32)
    for row in range(batch):
        n = int((mask[row] == 1).sum())
        if np.array_equal(mask[row], np.arange(count) < n):
            length[row] = n
            for t in range(n):
                weights[row, SEGMENTS * t // n, t] = 1
    return length, weights / np.maximum(weights.sum(axis=2, keepdims=True), 1)


def memo_lookup(
    query: Floats,
    length: Integers,
    keys: Floats,
    lengths: Integers,
    threshold: Floats,
    index: npt.NDArray[np.uint8],
) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """The nearest entry of each row's own length, or -1; and whether a batch with rows hit throughout.

    Shapes: query [B, k], length [B], keys [k, N], lengths [N], threshold []; `index` is not needed
    to be exact. Raises ValueError if they do not fit each other.
    """
    if (
        query.ndim != 2
        or keys.ndim != 2
        or query.shape[1] != keys.shape[0]
        or keys.shape[1:] != lengths.shape
    ):
        raise ValueError(f"query {query.shape}, keys {keys.shape} and lengths {lengths.shape} do not fit")
    entry = np.full(len(query), -1, np.int64)
    for row in range(len(query)):
        comparable = np.flatnonzero(lengths == length[row])
        if length[row] < 0 or not len(comparable):
            continue
        distance = np.sqrt(np.square(keys[:, comparable] - query[row][:, None]).sum(axis=0))
        nearest = int(np.argmin(distance))
        if distance[nearest] <= threshold:  # false for NaN
            entry[row] = comparable[nearest]
    return entry, np.asarray(len(entry) > 0 and bool((entry >= 0).all()))


def memo_fetch(
    entry: Integers, payload: Payload, offsets: Integers, lengths: Integers, padded_length: Integers
) -> Floats:
    """The rows of each entry, widened to f32 and padded with zeros: [B, L, d].

    Shapes: entry [B], payload [R, d], offsets [N], lengths [N], padded_length [1].
    Raises ValueError for entries that are not in the store, or do not fit.
    """
    output = np.zeros((len(entry), int(padded_length[0]), payload.shape[1]), np.float32)
    for row, e in enumerate(entry):
        n = _length_of(e, lengths, output.shape[1])
        output[row, :n] = _block(payload, e, offsets, n)
    return output


def memo_context(
    entry: Integers, values: Floats, payload: Payload, offsets: Integers, lengths: Integers
) -> Floats:
    """Stored probabilities times the request's own values, heads side by side: [B, L, H * dv].

    Shapes: entry [B], values [B, L, H * dv], payload [S, H], offsets [N], lengths [N].
    Raises ValueError for entries that are not in the store, or do not fit.
    """
    heads = payload.shape[1]
    if not heads or values.shape[2] % heads:
        raise ValueError(f"{heads} heads do not divide values of width {values.shape[2]}")
    output = np.zeros_like(values)
    for row, e in enumerate(entry):
        n = _length_of(e, lengths, values.shape[1])
        probabilities = _block(payload, e, offsets, n * n).reshape(heads, n, n)
        own = values[row, :n].reshape(n, heads, values.shape[2] // heads)
        output[row, :n] = np.einsum("hij,jhv->ihv", probabilities, own).reshape(n, values.shape[2])
    return output


def _length_of(entry: int, lengths: Integers, most: int) -> int:
    if entry == -1:
        return 0
    if not 0 <= entry < len(lengths):
        raise ValueError(f"entry {entry} is not in a store of {len(lengths)}")
    if not 0 <= lengths[entry] <= most:
        raise ValueError(f"entry {entry} of length {lengths[entry]} does not fit a request of length {most}")
    return int(lengths[entry])


def _block(payload: Payload, entry: int, offsets: Integers, rows: int) -> Floats:
    if not rows:
        return np.zeros((0, payload.shape[1]), np.float32)
    first = int(offsets[entry])
    if first < 0 or first + rows > len(payload):
        raise ValueError(
            f"rows {first} to {first + rows} of entry {entry} are not in a payload of {len(payload)}"
        )
    return payload[first : first + rows].astype(np.float32)


def run_in_python(bundle: Path | str, lookup: Callable[..., Any] = memo_lookup) -> ort.InferenceSession:
    """A session on the bundle whose memo operators are this module's, or a lookup of your own.

    The operators are the process's: the newest `lookup` serves all such sessions.

    Raises:
        MemoError: onnxruntime-extensions is not installed.
    """
    bundle = Path(bundle)
    model = ir.load(bundle / MODEL)
    rename_for_python(model)
    options = session_options(native=False)
    options.register_custom_ops_library(python_library())
    _policy[0] = lookup
    return open_session(model, bundle, options)


def rename_for_python(model: ir.Model) -> None:
    """Move the memo nodes of `model` to the domain of Python operators and drop their bodies.

    onnxruntime-extensions knows no half precision: a `Cast` widens the payloads first (all of them,
    so this is for trying things out, not for large stores).
    """
    for node in list(model.graph.all_nodes()):
        if node.domain != DOMAIN:
            continue
        node.domain = PYTHON_DOMAIN
        for at, value in enumerate(node.inputs):
            if value is not None and value.dtype == ir.DataType.FLOAT16:
                widen = ir.node("Cast", [value], {"to": ir.DataType.FLOAT.value})
                widen.outputs[0].name = f"{value.name}/wide/{node.outputs[0].name}"
                assert node.graph is not None
                node.graph.insert_before(node, widen)
                node.replace_input_with(at, widen.outputs[0])
    for identifier in [key for key in model.functions if key[0] == DOMAIN]:
        del model.functions[identifier]
    del model.opset_imports[DOMAIN]
    model.opset_imports[PYTHON_DOMAIN] = 1


# Operators can be registered only once in a process; this is what the one lookup calls.
_policy: list[Callable[..., Any]] = [memo_lookup]


@functools.cache
def python_library() -> str:
    """The library that runs operators written in Python, after this module's were registered with it."""
    try:
        from onnxruntime_extensions import PyCustomOpDef, get_library_path, onnx_op
    except ImportError as error:
        raise MemoError(
            "Python operators need onnxruntime-extensions: pip install 'onnx-memo[extensions]'"
        ) from error
    f32, i64 = PyCustomOpDef.dt_float, PyCustomOpDef.dt_int64
    u8, boolean = PyCustomOpDef.dt_uint8, PyCustomOpDef.dt_bool

    @onnx_op(op_type="MemoLookup", inputs=[f32, i64, f32, i64, f32, u8], outputs=[i64, boolean])  # type: ignore[untyped-decorator]
    def lookup(*inputs: Any) -> Any:
        return _policy[0](*inputs)

    onnx_op(op_type="MemoSegments", inputs=[i64], outputs=[i64, f32])(memo_segments)
    onnx_op(op_type="MemoFetch", inputs=[i64, f32, i64, i64, i64], outputs=[f32])(memo_fetch)
    onnx_op(op_type="MemoContext", inputs=[i64, f32, f32, i64, i64], outputs=[f32])(memo_context)
    rows = [f32, i64, i64, f32, f32, i64, i64, f32, f32, f32]
    grow = [f32, i64, f32, f32, i64, i64, f32, f32, i64, i64, f32, f32, f32]
    attention = [f32, f32, f32, i64, i64, i64, i64, f32, f32, i64, f32, f32]
    merge = [f32, f32, i64, i64, i64, i64, f32, f32, i64, i64]
    onnx_op(op_type="MemoRows", inputs=rows, outputs=[i64, i64, boolean, f32, f32])(memo_rows)
    onnx_op(op_type="MemoGrow", inputs=grow, outputs=[f32, i64, i64, f32])(memo_grow)
    onnx_op(op_type="MemoAttention", inputs=attention, outputs=[f32])(memo_attention)
    onnx_op(op_type="MemoMerge", inputs=merge, outputs=[f32])(memo_merge)
    path: str = get_library_path()
    return path
