"""The command line: runs a command, and says in a line what went wrong."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

from onnx_memo import interrupts
from onnx_memo.commands import explain, make, measure
from onnx_memo.commands.shared import app
from onnx_memo.errors import MemoError
from onnx_memo.levels.ways import NothingPays

COMMANDS = (make, measure, explain)  # importing them registers what they hold with `app`


def main() -> NoReturn:
    """Errors that the user can mend become one line and exit code 2."""
    interrupts.catch()
    # --debug is understood anywhere in the line.
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        try:
            code = app(arguments, standalone_mode=False)
        finally:
            interrupts.too_late()
        sys.exit(code)
    except (Exception, interrupts.Interrupted) as error:
        complaint = _complaint(error)
        if complaint is None or len(arguments) < len(sys.argv[1:]):
            raise
        if "--json" in arguments:
            print(json.dumps(complaint.as_json(error)))
        print(f"onnx-memo: {complaint.line}", file=sys.stderr)
        sys.exit(complaint.code)


@dataclass(frozen=True)
class _Complaint:
    """What is said of an error: a line, and the exit code."""

    message: str
    code: int = 2

    @property
    def line(self) -> str:
        return " ".join(self.message.split())

    def as_json(self, error: BaseException) -> dict[str, Any]:
        if isinstance(error, NothingPays):
            return {"pays": False, "reason": str(error), **error.as_json(), "exit_code": self.code}
        return {"error": self.line, "exit_code": self.code}


def _complaint(error: BaseException) -> _Complaint | None:
    """What is said of an error that a user can mend; None for a defect of ours."""
    if isinstance(error, NothingPays):
        return _Complaint(f"no bundle was written, since none would pay: {error}", code=3)
    if isinstance(error, MemoError):
        return _Complaint(str(error))
    if isinstance(error, interrupts.Interrupted):
        return _Complaint("interrupted: no bundle was written", code=128 + error.number)
    if isinstance(error, OSError):
        return _Complaint(f"'{error.filename or 'a file'}': {error.strerror or error} (--debug shows where)")
    if hasattr(error, "format_message"):  # of the parser, whose own way takes several lines
        return _Complaint(f"{error.format_message() or 'name a command'} (--help shows what there is)")
    return None
