"""Transformer inference in ONNX Runtime that never computes the same attention twice."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx_memo.compare import bench
    from onnx_memo.errors import MemoError
    from onnx_memo.inspection import Inspection, inspect
    from onnx_memo.pipeline import Result, optimize
    from onnx_memo.runtime import library_path, session_options
    from onnx_memo.served.explain import explain, worst_served
    from onnx_memo.served.explanation import Explanation, Worst

__version__ = "0.1.0"

__all__ = [
    "Explanation",
    "Inspection",
    "MemoError",
    "Result",
    "Worst",
    "bench",
    "explain",
    "inspect",
    "library_path",
    "optimize",
    "session_options",
    "worst_served",
]

# Serving needs `session_options` alone; ONNX, tokenizers and all that makes bundles load when they are used.
_HOMES = {
    "Explanation": "served.explanation",
    "Inspection": "inspection",
    "MemoError": "errors",
    "Result": "pipeline",
    "Worst": "served.explanation",
    "bench": "compare",
    "explain": "served.explain",
    "inspect": "inspection",
    "library_path": "runtime",
    "optimize": "pipeline",
    "session_options": "runtime",
    "worst_served": "served.explain",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'onnx_memo' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"onnx_memo.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
