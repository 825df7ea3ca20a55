"""Models that give one number for each token, as where an answer begins and ends: padding does not count."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from support import (
    MODES,
    assert_identical,
    changed,
    join,
    memoized,
    original,
    random_samples,
    relative_errors,
    write_samples,
)

import onnx_memo


def two_heads(model: ir.Model, width: object = "sequence_length") -> None:
    """Let it give `start` and `end`, each [batch, tokens], as question answering has them."""
    states = model.graph.outputs.pop()
    rng = np.random.default_rng(0)
    for name in ("start", "end"):
        weights = ir.tensor(rng.standard_normal((32, 1), np.float32), name=f"{name}.weight")
        axes = ir.tensor(np.array([-1]), name=f"{name}.axes")
        nodes = [
            ir.node("Constant", [], {"value": weights}),
            ir.node("Constant", [], {"value": axes}),
        ]
        product = ir.node("MatMul", [states, nodes[0].outputs[0]])
        squeezed = ir.node("Squeeze", [product.outputs[0], nodes[1].outputs[0]])
        logits = squeezed.outputs[0]
        logits.name, logits.type, logits.shape = (
            name,
            ir.TensorType(ir.DataType.FLOAT),
            ir.Shape(["batch_size", width]),
        )
        model.graph.extend([*nodes, product, squeezed])
        model.graph.outputs.append(logits)


@pytest.mark.parametrize("mode", MODES)
def test_stored_inputs_come_back_with_padding_and_without(tmp_path, mode):
    model = changed("bert", tmp_path / "model.onnx", two_heads)
    session = original(model)
    samples = random_samples(session, [5, 8, 8, 13], seed=1)
    data = write_samples(tmp_path / "data.npz", samples)
    made = onnx_memo.optimize(model, data, tmp_path / "bundle")
    assert made.manifest.sites[0].level == "rows"
    served = memoized(made.path, mode)
    for sample in samples:
        assert_identical(served.run(None, sample), session.run(None, sample))
        padded = join([sample], padded=16)
        for want, have in zip(session.run(None, padded), served.run(None, padded), strict=True):
            assert max(relative_errors(padded, have, want)) < 1e-5


def test_classes_that_are_as_many_as_the_tokens_all_count(tmp_path):
    """An output that is as wide as the request by chance is looked at in whole."""
    model = changed("bert", tmp_path / "model.onnx", lambda model: two_heads(model, 16))
    session = original(model)
    data = write_samples(
        tmp_path / "data.npz", [join([s], padded=16) for s in random_samples(session, [5, 8], 1)]
    )
    with pytest.raises(onnx_memo.MemoError, match="the answer to a stored input is off"):
        onnx_memo.optimize(model, data, tmp_path / "bundle")
