"""Forms of exported transformers that people hold, made from small random models: what works with each.

`python -m tools.forms list` names them, `make NAME -o FILE` makes one, `table` tries all of them and writes
`docs/models.md`, `fixtures` makes the small ones of `tests/fixtures/forms/`. Needs the `export` extra.
"""
