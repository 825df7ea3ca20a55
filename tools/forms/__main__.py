"""The command line: `python -m tools.forms --help`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import onnx_ir

from onnx_memo.graph.external import external_files
from tools.forms.form import WIDE, Kitchen, NotMade, Scale
from tools.forms.registry import forms
from tools.forms.small import make_fixtures
from tools.forms.table import PAGE, make_table
from tools.forms.trial import tried, tried_in_8_bits


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.forms", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="name all forms, and how each is made")
    make = commands.add_parser("make", help="make one form")
    make.add_argument("name")
    make.add_argument(
        "-o", "--output", type=Path, required=True, help="the model's file; what belongs to it is put beside"
    )
    trial = commands.add_parser("trial", help="try one form, and print what came of it as JSON")
    trial.add_argument("name")
    table = commands.add_parser("table", help=f"try forms and write {PAGE}")
    table.add_argument("--only", metavar="NAME[,NAME]", help="these, as *-patterns")
    table.add_argument("--jobs", type=int, default=1, help="how many at a time; times are right with 1")
    table.add_argument("--timeout", type=float, default=900, metavar="SECONDS", help="of one form")
    table.add_argument("--stale", action="store_true", help="take what an earlier state of the code gave")
    kept = commands.add_parser("fixtures", help="make the files in tests/fixtures/forms/")
    kept.add_argument("names", nargs="*", metavar="NAME", help="these; default: all")
    for command in (make, trial, table):
        command.add_argument(
            "--base-width",
            type=int,
            default=Scale.width,
            help=f"of the random models; the page has {Scale.width} and {WIDE}",
        )
        command.add_argument("--layers", type=int, default=Scale.layers, help="of the random models")
    chosen = parser.parse_args(arguments)
    every = forms()
    if chosen.command == "list":
        for form in every.values():
            print(f"{form.name:32} {form.family}: {form.how}")
        return 0
    if chosen.command == "fixtures":
        return make_fixtures(every, chosen.names)
    kitchen = Kitchen(every, Scale.of_width(chosen.base_width, chosen.layers))
    if chosen.command == "table":
        return make_table(kitchen, chosen.only, chosen.jobs, chosen.timeout, chosen.stale)
    if chosen.name not in every:
        parser.error(f"'{chosen.name}' is no form: see python -m tools.forms list")
    if chosen.command == "trial":
        form = every[chosen.name]
        row = tried(form, kitchen)
        if form.real and row.sites is not None:
            row.int8 = tried_in_8_bits(form, kitchen)
        print(json.dumps(row.as_json()))
        return 0
    return _make(kitchen, chosen.name, chosen.output)


def _make(kitchen: Kitchen, name: str, output: Path) -> int:
    try:
        made = kitchen.made(name)
    except NotMade as error:
        print(f"{name} cannot be made here: {error}", file=sys.stderr)
        return 2
    output.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(made, output)
    for file in external_files(onnx_ir.load(made)):
        shutil.copyfile(made.parent / file, output.parent / file)
    print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
