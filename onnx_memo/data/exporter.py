"""Exports a model directory with optimum, in a process of its own.

`export.py` runs this file: exporters print, set up logging, and load PyTorch, which keeps its memory and its
threads, and nothing of that is to reach the process that asks. It imports nothing of this package, so that
it runs wherever that was imported from.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

DONE, FAILED, MISSING = 0, 1, 3  # exit codes; Python's own for a wrong call is 2


def main(model: str, to: str, task: str, opset: str, why: str) -> int:
    """Export `model` as `to`/model.onnx for a task, its configuration and tokenizer beside it.

    Args:
        model: a Hugging Face model directory.
        to: a folder, made if need be.
        task: of optimum, as in `feature-extraction`.
        opset: of the ONNX file, a number.
        why: a file that is written where this fails: what the first cause says.

    Returns:
        `DONE`, `FAILED`, or `MISSING` where a package is missing.
    """
    code = FAILED
    try:
        try:
            from optimum.exporters.onnx import main_export
        except ImportError:
            code = MISSING
            raise
        main_export(model, output=to, task=task, library_name="transformers", opset=int(opset), device="cpu")
    except Exception as error:  # whatever the exporter meets in a foreign model
        traceback.print_exc()
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        Path(why).write_text(str(cause) or type(cause).__name__, encoding="utf-8", errors="replace")
        return code
    return DONE


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
