"""A full disk is noticed before the work begins."""

from __future__ import annotations

import shutil
from collections import namedtuple

import pytest

from onnx_memo.errors import MemoError
from onnx_memo.store.room import check_room


def test_a_disk_without_room_is_refused(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(0, 0, 10 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    check_room(tmp_path, 10 * 2**20)
    with pytest.raises(MemoError, match="has 10 MiB free and 20 MiB are needed: make room"):
        check_room(tmp_path, 20 * 2**20)
