"""What `onnx-memo` and `python -m onnx_memo` start: until all is loaded, a signal ends it without a word."""

from __future__ import annotations

from typing import NoReturn

from onnx_memo import interrupts


def main() -> NoReturn:
    """Load the command line, and run it."""
    interrupts.end_quietly()
    from onnx_memo.cli import main as run

    run()


if __name__ == "__main__":
    main()
