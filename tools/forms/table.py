"""All forms, each in a process of its own, and the page that shows what came of them."""

from __future__ import annotations

import fnmatch
import functools
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.forms.form import Form, Kitchen
from tools.forms.page import page
from tools.forms.trial import Row
from tools.measure import code

PAGE = Path("docs") / "models.md"


def make_table(kitchen: Kitchen, only: str | None, jobs: int, timeout: float, stale: bool) -> int:
    """Try the forms that `only` names (all: None), tell each, and write the page where it is all of them."""
    patterns = ["*"] if only is None else only.split(",")
    chosen = [f for f in kitchen.forms.values() if any(fnmatch.fnmatch(f.name, one) for one in patterns)]
    found: list[Row] = []
    for row in _rows(kitchen, chosen, jobs, timeout, stale):
        found.append(row)
        print(f"{row.name}: {short(row)}", flush=True)
    if only is None:
        PAGE.write_text(page(kitchen, found), encoding="utf-8")
        print(PAGE)
    return 0


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
        f"{row.int8}"
    )


def _rows(kitchen: Kitchen, chosen: Sequence[Form], jobs: int, timeout: float, stale: bool) -> Iterator[Row]:
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(functools.partial(_row, kitchen, timeout, stale), chosen)


def _row(kitchen: Kitchen, timeout: float, stale: bool, form: Form) -> Row:
    """What came of a form: kept, where the same code tried it before."""
    kept = kitchen.folder / "rows" / f"width-{kitchen.scale.width}" / f"{form.name}.json"
    made_by = code(Path(__file__).parent)
    if kept.is_file():
        known = json.loads(kept.read_text(encoding="utf-8"))
        if stale or known["made_by"] == made_by:
            return Row(**known["row"])
    row = _in_a_process(kitchen, timeout, form)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"made_by": made_by, "row": row.as_json()}), encoding="utf-8")
    return row


def _in_a_process(kitchen: Kitchen, timeout: float, form: Form) -> Row:
    width = str(kitchen.scale.width)
    command = [sys.executable, "-W", "ignore", "-m", "tools.forms", "trial", form.name, "--base-width", width]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return Row(form.name, failed=f"not done within {timeout:.0f} s")
    if run.returncode < 0:
        return Row(form.name, failed=f"ended by signal {-run.returncode}")
    lines = run.stdout.splitlines()
    if run.returncode or not lines:
        said = run.stderr.strip().splitlines() or ["nothing"]
        return Row(form.name, failed=f"ended with code {run.returncode}: {said[-1][:300]}")
    return Row(**json.loads(lines[-1]))
