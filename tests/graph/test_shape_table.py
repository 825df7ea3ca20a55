"""Shapes that ONNX's own inference does not tell."""

from __future__ import annotations

import onnx_ir as ir
from onnx import parser

from onnx_memo.graph.shapes import BATCH, LENGTHS, ShapeTable


def test_group_normalization_leaves_the_shape_as_it_is():
    model = parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 21]>
        g (float[B, 4, L] x, float[4] s, float[4] b) => (float[B, 4, L] y) {
          normal = GroupNormalization <num_groups = 2> (x, s, b)
          y = Tanh (normal)
        }"""
    )
    shapes = ShapeTable(ir.from_proto(model)).at(LENGTHS[0])
    assert shapes["normal"] == shapes["y"] == (BATCH, 4, LENGTHS[0])
