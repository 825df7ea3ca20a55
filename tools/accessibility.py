"""Checks that reports can be read by everyone: axe in headless Chromium, wide and narrow, light and dark.

    python -m tools.accessibility [REPORT.html ...]     (or: make accessibility)

Without arguments the reports of made-up bundles are checked, those of the tests. It needs node, npm, Chromium
and, the first time, a network: axe and what drives Chromium go to `.cache/accessibility`.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from onnx_memo.report import write_report

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "accessibility"
PACKAGES = {"axe-core": "4.14.1", "puppeteer-core": "24.43.1"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CASES = ("usual", "rows", "all misses, nothing found", "fixed length", "nothing at all", "hostile text")


def main() -> int:
    """Checks, prints a line for each run, and gives the exit code: 1 where something is to be mended."""
    programs = {name: shutil.which(name) for name in ("node", "npm", *BROWSERS)}
    chromium = next((programs[name] for name in BROWSERS if programs[name]), None)
    if not (programs["node"] and programs["npm"] and chromium):
        print("make accessibility needs node, npm and chromium: apt-get install nodejs npm chromium")
        return 2
    _install()
    with tempfile.TemporaryDirectory() as folder:
        pages = list(map(Path, sys.argv[1:])) or _made_up(Path(folder))
        missing = [str(page) for page in pages if not page.is_file()]
        if missing:
            print(f"no such file: {', '.join(missing)}")
            return 2
        return 1 if sum(_show(run) for run in _runs(chromium, pages)) else 0


def _install() -> None:
    """Bring the packages, where they are not there in these versions."""
    places = {name: CACHE / "node_modules" / name / "package.json" for name in PACKAGES}
    if all(p.is_file() and json.loads(p.read_text())["version"] == PACKAGES[n] for n, p in places.items()):
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "package.json").write_text(json.dumps({"private": True, "dependencies": PACKAGES}))
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=CACHE, check=True)


def _made_up(folder: Path) -> list[Path]:
    """The reports of some of the tests' cases."""
    sys.path.insert(0, str(ROOT / "tests"))
    cases = importlib.import_module("support_report_cases").CASES
    paths = [folder / f"{name.replace(' ', '-').replace(',', '')}.html" for name in CASES]
    for name, path in zip(CASES, paths, strict=True):
        write_report(path, cases[name]())
    return paths


def _runs(chromium: str, pages: list[Path]) -> list[dict[str, Any]]:
    """What axe says of each page, at each width and in each colour scheme."""
    script = str(Path(__file__).with_suffix(".mjs"))
    command = ["node", script, chromium, str(CACHE), *(str(page.resolve()) for page in pages)]
    lines = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def _show(run: dict[str, Any]) -> bool:
    """Print what was found; whether anything is to be mended."""
    scrolls = run["wide"] > run["width"]
    unsure = sum(len(rule["at"]) for rule in run["unsure"])
    name = f"{Path(run['path']).name}, {run['width']} wide, {run['scheme']}"
    # Axe cannot tell the ground of text in pictures; tests/report/test_accessible.py measures the colours.
    print(
        f"{name}: {run['passed']} rules pass, {len(run['violations'])} do not; not judged: {unsure} elements"
    )
    for rule in run["violations"]:
        print(f"  {rule['id']}: {rule['help']}: {'; '.join(rule['at'][:5])} ({len(rule['at'])} in all)")
    if scrolls:
        print(f"  the page is {run['wide']} wide: it scrolls sideways")
    return scrolls or bool(run["violations"])


if __name__ == "__main__":
    sys.exit(main())
