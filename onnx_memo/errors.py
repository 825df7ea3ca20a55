"""The one exception that means: the user can mend this; and what others' errors say, on one line."""

from __future__ import annotations


class MemoError(Exception):
    """Something the user gave, or the machine lacks, stops us; not a defect of ours.

    The message is one line: what was found, where, and what to do next.
    The command line prints it without a traceback and exits with code 2.
    """


MOST_LETTERS = 300


def reason_of(error: BaseException) -> str:
    """What an error of another library says, on one line; of a long text the end, from the start of a word.

    Libraries say what failed where first, and why last; of errors with causes the first cause says why.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    if len(text) <= MOST_LETTERS:
        return text
    end = text[-MOST_LETTERS:]
    return f"... {end.partition(' ')[2] or end}"
