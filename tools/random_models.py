"""Models of a real architecture with random weights, where no trained one is at hand without a hub."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.export import require_exporter


def bring_random(name: str, to: Path, build: Callable[[Any], Any]) -> Path:
    """Make `to`/`name`/model.onnx if it is not there, and return its path.

    `build` takes the module `transformers` and makes the model; its weights are seeded.
    """
    path = to / name / "model.onnx"
    if path.is_file():
        return path
    require_exporter()
    from tools.export_fixtures import export_with_optimum, seeded, strip_notes

    transformers: Any = importlib.import_module("transformers")
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_suffix(".part")
    export_with_optimum(seeded(lambda: build(transformers)), made)
    strip_notes(made)
    made.rename(path)
    return path
