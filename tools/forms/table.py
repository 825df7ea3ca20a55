"""All forms, each in a process of its own, and the page that shows what came of them."""

from __future__ import annotations

import fnmatch
import functools
import json
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tools.forms.form import DEEP, WIDE, Form, Kitchen, Scale
from tools.forms.page import page
from tools.forms.registry import forms
from tools.forms.trial import Row, tried, tried_in_8_bits, tried_on_templates
from tools.measure import code

HERE = Path(__file__).parent
PAGE = Path("docs") / "models.md"


def make_table(kitchen: Kitchen, only: str | None, jobs: int, timeout: float, stale: bool) -> int:
    """Try the forms that `only` names (all: None), tell each, and write the page of all that are kept.

    The page has what was tried at the usual scale, and the times of what was tried at base width.
    """
    patterns = ["*"] if only is None else only.split(",")
    chosen = [f for f in kitchen.forms.values() if any(fnmatch.fnmatch(f.name, one) for one in patterns)]
    if kitchen.scale != Scale():
        chosen = [form for form in chosen if not form.real]  # these have one width
    with ThreadPoolExecutor(jobs) as pool:
        for row in pool.map(functools.partial(_row, kitchen, timeout, stale), chosen):
            print(f"{row.name}: {short(row)}", flush=True)
    small = replace(kitchen, scale=Scale())
    wide, deep = (replace(kitchen, scale=Scale.of_width(WIDE, layers)) for layers in (Scale.layers, DEEP))
    rows = _all_kept(small)
    earlier = sum(_kept(small, kitchen.forms[row.name], stale=False) is None for row in rows)
    PAGE.write_text(page(small, rows, _all_kept(wide), _all_kept(deep), earlier), encoding="utf-8")
    print(PAGE)
    return 0


def _all_kept(kitchen: Kitchen) -> list[Row]:
    kept = (_kept(kitchen, form, stale=True) for form in kitchen.forms.values())
    return [row for row in kept if row is not None]


def short(row: Row) -> str:
    """A row in one line."""
    if row.unmade or row.failed:
        return f"not made: {row.unmade}" if row.unmade else f"FAILED: {row.failed}"
    levels = ", ".join(row.levels) or "no level"
    found = f"{row.sites} sites, {levels}"
    if row.refused:
        return f"{found}; refused: {row.refused}"
    return (
        f"{found}; {row.level}: misses {row.misses}, stored {row.stored}, hits {row.hits}, {row.ratio}, "
        f"{row.int8}, {row.templated}"
    )


def _row(kitchen: Kitchen, timeout: float, stale: bool, form: Form) -> Row:
    """What came of a form: kept, where the same code tried it before."""
    known = _kept(kitchen, form, stale)
    if known is not None:
        return known
    row = _in_a_process(kitchen, timeout, form)
    file = _file(kitchen, form)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"made_by": code(HERE), "row": row.as_json()}), encoding="utf-8")
    return row


def _kept(kitchen: Kitchen, form: Form, stale: bool) -> Row | None:
    file = _file(kitchen, form)
    if not file.is_file():
        return None
    known = json.loads(file.read_text(encoding="utf-8"))
    return Row(**known["row"]) if stale or known["made_by"] == code(HERE) else None


def _file(kitchen: Kitchen, form: Form) -> Path:
    return kitchen.folder / "rows" / kitchen.scale.name / f"{form.name}.json"


def _in_a_process(kitchen: Kitchen, timeout: float, form: Form) -> Row:
    # The slow imports are done once, in a server that each process is forked from.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tools.forms.trial", "tools.forms.bases", "tools.forms.random_weights"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, form.name, kitchen.scale, kitchen.folder))
    process.start()
    theirs.close()
    try:
        found = _received(ours, process, timeout)
        row = Row(form.name, failed=found) if isinstance(found, str) else Row(**found)
        if form.real and row.sites is not None:
            row.int8 = _received(ours, process, timeout)
            row.templated = _received(ours, process, timeout)
        return row
    finally:
        process.kill()
        process.join()
        ours.close()


def _received(ours: Connection, process: BaseProcess, timeout: float) -> Any:
    """What the process sends next, or, as a string, why it does not."""
    try:
        return ours.recv() if ours.poll(timeout) else f"not done within {timeout:.0f} s"
    except EOFError:
        process.join()
        return f"the process ended with code {process.exitcode}"


def _send(to: Connection, name: str, scale: Scale, folder: Path) -> None:
    """Try a form in this process; what libraries print is left out."""
    with open(os.devnull, "w", encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    kitchen = Kitchen(forms(), scale, folder)
    form = kitchen.forms[name]
    row = tried(form, kitchen)
    to.send(row.as_json())
    if form.real and row.sites is not None:
        to.send(tried_in_8_bits(form, kitchen))
        to.send(tried_on_templates(form, kitchen))
