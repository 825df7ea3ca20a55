"""Fixtures changed to models that choose a class."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from support import fixture, original, variants

CLASSES = 5


def classifying(model: ir.Model) -> None:
    """Classes, `logits` [B, 5]: five of the first token's states, less what they usually are.

    So each class is chosen for some of the `variants`. The model is the fixture `bert`.
    """
    session = original(fixture("bert"))
    usual = np.mean([session.run(None, feeds)[0][0, 0, :CLASSES] for feeds in variants(64, seed=0)], axis=0)
    (states,) = model.graph.outputs
    first = ir.node("Constant", [], {"value": ir.tensor(np.asarray(0))})
    which = ir.node("Constant", [], {"value": ir.tensor(np.arange(CLASSES))})
    token = ir.node("Gather", [states, first.outputs[0]], {"axis": 1})
    some = ir.node("Gather", [token.outputs[0], which.outputs[0]], {"axis": 1})
    less = ir.node("Constant", [], {"value": ir.tensor(usual)})
    logits = ir.node("Sub", [some.outputs[0], less.outputs[0]])
    logits.outputs[0].name, logits.outputs[0].type = "logits", states.type
    logits.outputs[0].shape = ir.Shape([None, CLASSES])
    model.graph.extend([first, which, token, some, less, logits])
    model.graph.outputs[0] = logits.outputs[0]
