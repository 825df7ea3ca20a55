"""Is the disk large enough? A full one is noticed before the work begins."""

from __future__ import annotations

import shutil
from pathlib import Path

from onnx_memo.errors import MemoError


def check_room(folder: Path, needed: int) -> None:
    """Raises MemoError if the disk under `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise MemoError(
            f"'{folder}' has {free / 2**20:,.0f} MiB free and {needed / 2**20:,.0f} MiB are needed: "
            "make room, choose another disk with -o, or give fewer inputs"
        )
