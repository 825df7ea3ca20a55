"""The standard-ONNX bodies of the operators, a file for each (specified in `docs/operators.md`).

They serve where no native library is registered: ONNX Runtime inlines them. They are written for
the model's own opset version, and take what they are given to fit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.operators.bodies.attention import attention_body
from onnx_memo.operators.bodies.common import Results
from onnx_memo.operators.bodies.context import context_body
from onnx_memo.operators.bodies.exact import exact_body
from onnx_memo.operators.bodies.fetch import fetch_body
from onnx_memo.operators.bodies.grow import grow_body
from onnx_memo.operators.bodies.lookup import lookup_body
from onnx_memo.operators.bodies.merge import merge_body
from onnx_memo.operators.bodies.product import product_body
from onnx_memo.operators.bodies.product_steps import ACTIVATED, product_norm_body
from onnx_memo.operators.bodies.rows import rows_body
from onnx_memo.operators.bodies.rows_attention import rows_attention_body
from onnx_memo.operators.bodies.segments import segments_body
from onnx_memo.operators.bodies.self_attention import self_attention_body
from onnx_memo.operators.spec import DOMAIN, OPERATORS, Operator

# A body takes a builder and the inputs, and gives the outputs; both by the names of the signature.
BODIES: dict[str, Callable[..., Results]] = {
    "MemoSegments": segments_body,
    "MemoLookup": lookup_body,
    "MemoFetch": fetch_body,
    "MemoContext": context_body,
    "MemoRows": rows_body,
    "MemoGrow": grow_body,
    "MemoAttention": attention_body,
    "MemoRowsAttention": rows_attention_body,
    "MemoMerge": merge_body,
    "MemoExact": exact_body,
    "MemoProduct": product_body,
    **ACTIVATED,
    "MemoProductNorm": product_norm_body,
    "MemoSelfAttention": self_attention_body,
}


def operator_functions(opset: int, names: Collection[str] = tuple(OPERATORS)) -> list[ir.Function]:
    """The memo operators of these names as model-local functions, for a model of this opset."""
    return [_function(operator, opset) for name, operator in OPERATORS.items() if name in names]


def _function(operator: Operator, opset: int) -> ir.Function:
    arguments = {tensor.name: ir.val(tensor.name) for tensor in operator.inputs}
    builder = Builder(operator.name, opset)
    results = BODIES[operator.name](builder, **arguments)
    if results.keys() != {tensor.name for tensor in operator.outputs}:
        raise TypeError(f"the body of {operator.name} gives {', '.join(results)}")
    outputs = [results[tensor.name] for tensor in operator.outputs]
    graph = ir.Graph(
        list(arguments.values()),
        outputs,
        nodes=builder.nodes,
        opset_imports={"": opset},
        name=operator.name,
    )
    return ir.Function(DOMAIN, operator.name, graph=graph, attributes=[])
