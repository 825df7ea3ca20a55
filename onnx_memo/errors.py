"""The one exception that means: the user can mend this."""


class MemoError(Exception):
    """Something the user gave, or the machine lacks, stops us; not a defect of ours.

    The message is one line: what was found, where, and what to do next.
    The command line prints it without a traceback and exits with code 2.
    """
