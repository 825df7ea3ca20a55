"""The memo operators: their signatures (`spec`), standard bodies, and references in NumPy.

Also the way to run them in Python (`python`). What they mean, in words: `docs/operators.md`.
"""
