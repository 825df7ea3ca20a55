"""Exports through PyTorch's two exporters and optimum, of any opset."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tools.export_fixtures import strip_notes
from tools.forms.form import MODEL

TOKENS = ("input_ids", "attention_mask")
BATCH, LENGTH = 2, 32  # of the example that exporters trace


class Head(torch.nn.Module):
    """A model that takes the named inputs, by position, and returns what `pool` makes of states and mask."""

    def __init__(self, body: Any, names: Sequence[str], pool: Any = None, **fixed: Any) -> None:
        super().__init__()
        self.body, self.names, self.pool, self.fixed = body, tuple(names), pool, fixed

    def forward(self, *inputs: torch.Tensor) -> Any:
        """The last hidden state, or what is pooled of it."""
        given = dict(zip(self.names, inputs, strict=True))
        found = self.body(**given, **self.fixed)
        if self.pool is not None:
            return self.pool(found.last_hidden_state, given.get("attention_mask"))
        return found.last_hidden_state


def example(
    names: Sequence[str], shapes: Mapping[str, tuple[int, ...]], batch: int = BATCH
) -> dict[str, torch.Tensor]:
    """Inputs to trace with: tokens and masks of ones, positions that count, noise of a shape."""
    made = {}
    for name in names:
        if name in shapes:
            made[name] = torch.randn(batch, *shapes[name])
        elif name == "position_ids":
            made[name] = torch.arange(LENGTH)[None].repeat(batch, 1)
        else:
            made[name] = torch.ones((batch, LENGTH), dtype=torch.int64)
    return made


def export(
    model: torch.nn.Module,
    inputs: Mapping[str, torch.Tensor],
    outputs: Sequence[str],
    to: Path,
    *,
    opset: int,
    dynamo: bool,
    fixed: Sequence[int] = (),
) -> None:
    """Export a module that takes `inputs` by position into the folder `to`.

    The batch of all inputs and the length of tokens are free, but for the axes in `fixed`.
    """
    path = to / MODEL
    tokens = {name for name in inputs if name.endswith(("_ids", "_mask"))}
    free = {
        name: [axis for axis in ((0, 1) if name in tokens else (0,)) if axis not in fixed] for name in inputs
    }
    common: dict[str, Any] = {
        "input_names": list(inputs),
        "output_names": list(outputs),
        "opset_version": opset,
    }
    if not dynamo:
        names = {0: "batch", 1: "length"}
        axes = {name: {axis: names[axis] for axis in of} for name, of in free.items()}
        axes |= {name: {0: "batch"} for name in outputs if 0 not in fixed}
        torch.onnx.export(model, tuple(inputs.values()), str(path), dynamic_axes=axes, dynamo=False, **common)
    else:
        dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
        shapes: Any = tuple({axis: dims[axis] for axis in of} for of in free.values())
        positional = [p.kind for p in inspect.signature(model.forward).parameters.values()]
        if positional == [inspect.Parameter.VAR_POSITIONAL]:
            shapes = (shapes,)
        program = torch.onnx.export(
            model, tuple(inputs.values()), dynamo=True, dynamic_shapes=shapes, verbose=False, **common
        )
        assert program is not None
        program.save(path)
    strip_notes(path)
