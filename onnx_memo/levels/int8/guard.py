"""Guard an encoder at the level `int8`: run its form in 8 bits.

    output = If(MemoExact(strictness)) { the form in 8 bits } else { the original encoder }

Requires: the encoder of this very model, found on its present graph. Ensures: the model's inputs and outputs
keep their names and order; at `memo_strictness` 0 exactly the original nodes run, and so they do where the
processor's own products of bytes are not exact and no native library is there, if the original is kept.
"""

from __future__ import annotations

import onnx_ir as ir

from onnx_memo.graph import flow
from onnx_memo.graph.build import Builder
from onnx_memo.graph.copies import remove_graft
from onnx_memo.graph.encoder import Encoder
from onnx_memo.graph.prune import prune
from onnx_memo.levels.inserter import Inserter, add_operators, to_be_guarded
from onnx_memo.levels.whole import whole_branch
from onnx_memo.operators.spec import DOMAIN
from onnx_memo.precision.whole import WholeInCopy

NAME = "encoder"
RAN = f"memo/{NAME}/int8"  # the value that says whether the form runs, bool


def insert_int8_guard(model: ir.Model, encoder: Encoder, whole: WholeInCopy, compact: bool = False) -> None:
    """Guard `encoder`; `model` is changed.

    If it is to be `compact`, the original nodes are gone: in their place the form runs by nodes that are
    exact on every processor.
    """
    encoder = to_be_guarded(model, encoder)
    inserter = Inserter(model)
    b = Builder(f"memo/{NAME}", inserter.opset)
    exact = b.op("MemoExact", inserter.strictness(b), domain=DOMAIN, name=RAN)
    branch = whole_branch(inserter, encoder, whole)
    region = flow.region(model.graph, encoder.result, encoder.boundary, inserter.constant)
    instead = whole_branch(inserter, encoder, whole, everywhere=True) if compact else None
    inserter.make_conditional(b, region, encoder.result, exact, branch, instead)
    add_operators(model)
    remove_graft(model, encoder)
    if compact:
        prune(model)
