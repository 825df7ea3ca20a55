"""Fixtures for model directories."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import pytest


@pytest.fixture
def fake_optimum(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Let `body` be what the exporting process finds as optimum: that of `main_export(model, **options)`.

    One that begins with `raise` is that of the module.
    """

    def fake(body: str) -> None:
        package = tmp_path_factory.mktemp("fake") / "optimum"
        place = package / "exporters" / "onnx"
        place.mkdir(parents=True)
        for folder in (package, place.parent):
            (folder / "__init__.py").write_text("")
        text = textwrap.dedent(body).strip()
        if not text.startswith("raise "):
            lines = ["import os, sys", "from pathlib import Path", "def main_export(model, **options):"]
            text = "\n".join([*lines, textwrap.indent(text, "    ")])
        (place / "__init__.py").write_text(text)
        monkeypatch.setenv("PYTHONPATH", str(package.parent))

    return fake
