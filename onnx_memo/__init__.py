"""Transformer inference in ONNX Runtime that never computes the same attention twice."""

__version__ = "0.1.0"

from onnx_memo.compare import bench
from onnx_memo.errors import MemoError
from onnx_memo.inspection import Inspection, inspect
from onnx_memo.pipeline import Result, optimize
from onnx_memo.runtime import library_path, session_options

__all__ = [
    "Inspection",
    "MemoError",
    "Result",
    "bench",
    "inspect",
    "library_path",
    "optimize",
    "session_options",
]
