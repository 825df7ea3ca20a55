"""The native library and the session options that load it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import onnxruntime as ort

NAMES = ("libonnx_memo.so", "libonnx_memo.dylib", "onnx_memo.dll")
# Where a session finds the external data of a model that it is given without its folder.
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"


def library_path() -> Path | None:
    """The native library that was installed with this package, or None if it could not be built."""
    for name in NAMES:
        beside = Path(__file__).with_name(name)
        if beside.is_file():
            return beside
    try:
        installed = metadata.files("onnx-memo") or []
    except metadata.PackageNotFoundError:
        return None
    # An editable installation keeps the library apart from the sources.
    for file in installed:
        if file.name in NAMES and Path(str(file.locate())).is_file():
            return Path(str(file.locate()))
    return None


def operators_used(native: bool = True) -> str:
    """`native` or `stock`: the operators that sessions with these options run."""
    return "native" if native and library_path() is not None else "stock"


def session_options(*, native: bool = True, threads: int | None = None) -> ort.SessionOptions:
    """ONNX Runtime session options with the native library registered, where there is one.

    Args:
        native: False leaves the library out: the operators' standard-ONNX bodies serve.
        threads: number of intra-op threads; None lets ONNX Runtime choose.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors are raised; printed as well they would appear twice
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    path = library_path()
    if native and path is not None:
        options.register_custom_ops_library(str(path))
    return options
