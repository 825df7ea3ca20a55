"""Transformer inference in ONNX Runtime that never computes the same attention twice."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx_memo.advice.run import Advice, advise
    from onnx_memo.compare import bench
    from onnx_memo.comparison import Comparison
    from onnx_memo.data.given import Data
    from onnx_memo.errors import MemoError
    from onnx_memo.inspection import Inspection, inspect
    from onnx_memo.pipeline import optimize
    from onnx_memo.ranking import Screened, screen
    from onnx_memo.result import Result
    from onnx_memo.runtime import library_path, session_options
    from onnx_memo.served.explain import explain, worst_served
    from onnx_memo.served.explanation import Explanation, Worst
    from onnx_memo.side_by_side import SideBySide, compare_bundles

__version__ = "0.1.0"

__all__ = [
    "Advice",
    "Comparison",
    "Data",
    "Explanation",
    "Inspection",
    "MemoError",
    "Result",
    "Screened",
    "SideBySide",
    "Worst",
    "advise",
    "bench",
    "compare_bundles",
    "explain",
    "inspect",
    "library_path",
    "optimize",
    "screen",
    "session_options",
    "worst_served",
]

# Serving needs `session_options` alone; ONNX, tokenizers and all that makes bundles load when they are used.
_HOMES = {
    "Advice": "advice.run",
    "Comparison": "comparison",
    "Data": "data.given",
    "Explanation": "served.explanation",
    "Inspection": "inspection",
    "MemoError": "errors",
    "Result": "result",
    "Screened": "ranking",
    "SideBySide": "side_by_side",
    "Worst": "served.explanation",
    "advise": "advice.run",
    "bench": "compare",
    "compare_bundles": "side_by_side",
    "explain": "served.explain",
    "inspect": "inspection",
    "library_path": "runtime",
    "optimize": "pipeline",
    "screen": "ranking",
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
