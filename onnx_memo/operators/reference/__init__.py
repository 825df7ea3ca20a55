"""The operators in plain NumPy, a file for each: their specification in code (`docs/operators.md` in words).

Native kernels and standard bodies are tested against these functions, and `onnx_memo.operators.python` runs
bundles on them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnx_memo.operators.reference.attention import memo_attention
from onnx_memo.operators.reference.context import memo_context
from onnx_memo.operators.reference.exact import memo_exact
from onnx_memo.operators.reference.fetch import memo_fetch
from onnx_memo.operators.reference.grow import memo_grow
from onnx_memo.operators.reference.lookup import memo_lookup
from onnx_memo.operators.reference.merge import memo_merge
from onnx_memo.operators.reference.product import memo_product
from onnx_memo.operators.reference.product_steps import (
    memo_product_gelu,
    memo_product_gelu_tanh,
    memo_product_norm,
    memo_product_relu,
    memo_product_silu,
)
from onnx_memo.operators.reference.rows import memo_rows
from onnx_memo.operators.reference.rows_attention import memo_rows_attention
from onnx_memo.operators.reference.segments import memo_segments
from onnx_memo.operators.reference.self_attention import memo_self_attention

__all__ = [
    "REFERENCES",
    "memo_attention",
    "memo_context",
    "memo_exact",
    "memo_fetch",
    "memo_grow",
    "memo_lookup",
    "memo_merge",
    "memo_product",
    "memo_product_gelu",
    "memo_product_gelu_tanh",
    "memo_product_norm",
    "memo_product_relu",
    "memo_product_silu",
    "memo_rows",
    "memo_rows_attention",
    "memo_segments",
    "memo_self_attention",
]

# By the operators' names. Each takes the operator's inputs in their order and returns its output, or a tuple.
REFERENCES: dict[str, Callable[..., Any]] = {
    "MemoSegments": memo_segments,
    "MemoLookup": memo_lookup,
    "MemoFetch": memo_fetch,
    "MemoContext": memo_context,
    "MemoRows": memo_rows,
    "MemoGrow": memo_grow,
    "MemoAttention": memo_attention,
    "MemoRowsAttention": memo_rows_attention,
    "MemoMerge": memo_merge,
    "MemoExact": memo_exact,
    "MemoProduct": memo_product,
    "MemoProductGelu": memo_product_gelu,
    "MemoProductGeluTanh": memo_product_gelu_tanh,
    "MemoProductRelu": memo_product_relu,
    "MemoProductSilu": memo_product_silu,
    "MemoProductNorm": memo_product_norm,
    "MemoSelfAttention": memo_self_attention,
}
