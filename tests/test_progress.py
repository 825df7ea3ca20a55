"""Long work says how far it has come: bars in a terminal and in notebooks, lines now and then elsewhere."""

from __future__ import annotations

import io
import sys
import types
from typing import Any

import pytest
from rich.console import Console

from onnx_memo import notebook
from onnx_memo.commands import progress
from onnx_memo.notebook import notebook_bar
from onnx_memo.progress import Step


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    for module in ("progress", "notebook", "commands.progress"):
        monkeypatch.setattr(f"onnx_memo.{module}.time", made)
    return made


def test_a_step_tells_how_much_is_left(clock):
    step = Step("capturing", 1200)
    assert str(step) == "capturing: 0 of 1,200"
    clock.now, step.done = 10.0, 400
    assert str(step) == "capturing: 400 of 1,200, about 20 s left"
    clock.now = 300.0
    assert str(step) == "capturing: 400 of 1,200, about 10 min left"
    step.done = 1200
    assert str(step) == "capturing: 1,200 of 1,200"


def test_without_a_terminal_there_is_a_line_now_and_then(clock, capsys):
    with progress.show_progress() as start:
        advance = start("capturing", 40)
        for _ in range(40):
            clock.now += 1
            advance()
        clock.now += 9
        start("a step of a long name, " * 8, 3)
    assert capsys.readouterr().err.splitlines() == [
        "capturing: 10 of 40, about 30 s left",
        "capturing: 20 of 40, about 20 s left",
        "capturing: 30 of 40, about 10 s left",
        "capturing: 40 of 40",
    ]


def test_short_work_says_nothing(clock, capsys):
    with progress.show_progress() as start:
        for step in ("one", "two"):
            advance = start(step, 2)
            clock.now += 4
            advance()
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar_of_the_step_that_runs(monkeypatch):
    shown = io.StringIO()

    def console(**options: Any) -> Console:
        return Console(file=shown, force_terminal=True, width=100, **options | {"stderr": False})

    monkeypatch.setattr(progress, "Console", console)
    with progress.show_progress() as start:
        first = start("capturing", 2)
        first()
        second = start("learning", 8)
        second()
        (bars,) = [
            cell.cell_contents for cell in start.__closure__ or () if hasattr(cell.cell_contents, "tasks")
        ]
        assert [task.description for task in bars.tasks if task.visible] == ["learning"]
        first()
        assert [task.description for task in bars.tasks if task.visible] == ["learning"], "it has ended"
    assert "learning" in shown.getvalue()
    assert "1/8" in shown.getvalue()


# ---- Notebooks


@pytest.fixture
def pictures(monkeypatch, clock) -> list[dict[str, str]]:
    """What a notebook shows, one after the other."""
    found: list[dict[str, str]] = []

    def display(content: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw and display_id
        found.append(content)
        return types.SimpleNamespace(update=lambda content, raw: found.append(content))

    shell = types.SimpleNamespace(kernel="one")
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(notebook, "_bars", [])
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    return found


def test_a_notebook_shows_a_bar_with_the_time_left(pictures, clock):
    advance = notebook_bar("capturing <rows>", 4)
    for _ in range(2):
        clock.now += 3
        advance()
    assert [picture["text/plain"] for picture in pictures] == [
        "capturing <rows>: 0 of 4",
        "capturing <rows>: 1 of 4, about 9 s left",
        "capturing <rows>: 2 of 4, about 6 s left",
    ]
    assert pictures[2]["text/html"] == (
        '<progress value="2" max="4"></progress> capturing &lt;rows&gt;: 2 of 4, about 6 s left'
    )
    advance()
    assert len(pictures) == 3, "no more often than one looks"
    advance()
    assert pictures[3:] == [notebook.GONE]


def test_a_step_that_ends_early_leaves_no_bar_in_a_notebook(pictures):
    notebook_bar("capturing", 4)()
    notebook_bar("learning", 2)
    texts = [picture["text/plain"] for picture in pictures]
    assert texts == ["capturing: 0 of 4", "", "learning: 0 of 2"]


@pytest.mark.parametrize("shell", [None, types.SimpleNamespace()])
def test_elsewhere_nothing_is_shown(pictures, monkeypatch, shell):
    """In a program that loads IPython, and in IPython's own terminal."""
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    notebook_bar("capturing", 1)()
    monkeypatch.delitem(sys.modules, "IPython")
    notebook.notebook_bar("capturing", 1)()
    assert pictures == []
