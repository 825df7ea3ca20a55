"""A guarded model before it is built: on captured files, as they lie in the scratch folder."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from onnx_memo.graph.opened import OpenedModel
from onnx_memo.levels.base import Blueprint
from onnx_memo.sessions import place_weights


def guarded_on_trial(opened: OpenedModel, blueprint: Blueprint, folder: Path) -> ir.Model:
    """A copy of the model with the guards of `blueprint`; all external data lies in `folder`."""
    copy = opened.copy()
    place_weights(copy.model, opened.folder, folder)
    stored = blueprint.tensors(folder, [])
    blueprint.insert(copy, {tensor.name: tensor.in_place() for tensor in stored})
    return copy.model
