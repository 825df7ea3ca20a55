"""The page docs/models.md: a table for each family of forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx_memo.verify import STORED
from tools.forms.form import DEEP, WIDE, Kitchen, Scale
from tools.forms.trial import EQUAL, LOG_TOLERANCE, ONE_ONLY, REAL_TOKENS, TOLERANCE, Row
from tools.measure import machine

INTRODUCTION = """# Models

What `onnx-memo` makes of the forms in which people hold transformers. Made by `python -m tools.forms table` \
(`pip install '.[forms]'`), which makes each form from a small model with random weights \
({layers} layers, {width} wide) or from all-MiniLM-L6-v2 (names that begin with `minilm`), runs \
`onnx-memo inspect` and `onnx-memo optimize` (no tolerance) on it, and compares bundle and original. \
`python -m tools.forms make NAME -o FILE` makes one.

| column | meaning |
|---|---|
| sites | attention blocks found |
| levels | that may be taken; else why there are none |
| misses | requests that reuse nothing against the original, bit for bit, native and stock: of 1, and of \
4 of uneven lengths |
| stored | largest relative L2 error of the answer to a stored input: native / stock |
| reused | stored inputs that are reused / others that are |
| repeat | time of a literal repeat over the original's, 1 thread, {tokens} tokens ({real} of MiniLM), \
medians of interleaved runs, ± half the range over three parts of them. Models of {width} take hardly longer \
than a lookup, so: |
| wide | the same of models as wide as published `base` ones ({wide}, {layers} layers, {wide_tokens} tokens; \
`--base-width {wide}`), and whether something else was wrong there; of some the same with all their \
layers (`--layers {deep}`), where it is less, since a repeat takes no longer then |
| int8 | MiniLM only: time of every request over the original's at `--level int8 --tolerance {tolerance}`, \
news of up to 128 tokens, as `optimize` predicts it; else why not |
| log | MiniLM only: the same at `--level rows --tolerance {log_tolerance}`, lines like those of an SSH \
server's log (`tools.lookalikes sshd`): near repeats are reused, and the time is over that very file's |

`-`: nothing was written, for the reason under levels, or it was not tried at that width. Measured \
on {machine}.
"""
HEAD = "| form | made by | MB | sites | levels | misses: 1; 4 | stored | reused | repeat |"
NOTHING = "-"
MOST = 0.06  # of the original's time, that a repeat should take at base width


def page(
    kitchen: Kitchen,
    rows: Sequence[Row],
    at_base_width: Sequence[Row] = (),
    with_all_layers: Sequence[Row] = (),
    earlier: int = 0,
) -> str:
    """The page of all forms.

    Args:
        kitchen: that made them.
        rows: what came of each.
        at_base_width: the same of models as wide as published ones.
        with_all_layers: and as deep.
        earlier: so many of `rows` were tried with an earlier state of the code.
    """
    scale = kitchen.scale
    wide, deep = ({row.name: row for row in those} for those in (at_base_width, with_all_layers))
    parts = [
        INTRODUCTION.format(
            layers=scale.layers,
            width=scale.width,
            tokens=scale.tokens,
            wide=WIDE,
            deep=DEEP,
            wide_tokens=Scale.of_width(WIDE).tokens,
            real=REAL_TOKENS,
            tolerance=TOLERANCE,
            log_tolerance=LOG_TOLERANCE,
            machine=machine(),
        ),
        _summary(rows) + (f" {earlier} were tried with an earlier state of the code." if earlier else ""),
        *([_summary_at_base_width(wide | deep)] if at_base_width else []),
    ]
    by_family: dict[tuple[bool, str], list[Row]] = {}
    for row in rows:
        form = kitchen.forms[row.name]
        by_family.setdefault((form.real, form.family), []).append(row)
    for (real, family), those in by_family.items():
        parts.append(f"\n## {'MiniLM' if real else 'Random weights'}: {family}\n")
        head = HEAD + (" int8 | log |" if real else " wide |")
        parts += [head, "|---" * (head.count("|") - 1) + "|"]
        parts += [
            _line(
                kitchen,
                row,
                [_time(row, row.int8), _time(row, row.templated)]
                if real
                else [_at_base_width(wide.get(row.name), deep.get(row.name))],
            )
            for row in those
        ]
    known = {row.name for row in rows}
    untried = [f"`{name}`" for name in kitchen.forms if name not in known]
    parts += [f"\nNot tried: {', '.join(untried)}."] if untried else []
    return "\n".join(parts) + "\n"


def _summary(rows: Sequence[Row]) -> str:
    made = [row for row in rows if row.unmade is None]
    taken = [row for row in made if row.level]
    partly = [row for row in taken if row.refusals]
    right = [row for row in taken if _right(row)]
    by_level = [
        f"{sum(row.level == level for row in taken)} at `{level}`" for level in ("rows", "output", "probs")
    ]
    failed = sum(row.failed is not None for row in made)
    return (
        f"Of {len(made)} forms that can be made here, {len(taken)} become bundles ({', '.join(by_level)}), "
        f"{len(right)} of them right in all columns; in {len(partly)} of them not every softmax is taken. "
        f"{failed} trials failed."
    )


def _right(row: Row) -> bool:
    """Misses are identical, stored inputs reused and right."""
    equal = set(row.misses.values()) <= {EQUAL, ONE_ONLY}
    reused = row.hits is not None and [*row.hits] == [1, 0]
    return equal and reused and max(row.stored.values()) < STORED


def _summary_at_base_width(rows: Mapping[str, Row]) -> str:
    timed = [row for row in rows.values() if row.level == "rows" and row.ratio is not None]
    within = sum(row.ratio is not None and row.ratio[0] <= MOST for row in timed)
    return (
        f"At a width of {WIDE}, {len(timed)} of those at `rows` were tried: in {within} of them a literal "
        f"repeat takes at most {MOST} of the original's time, with all layers where these were tried."
    )


def _line(kitchen: Kitchen, row: Row, last: Sequence[str]) -> str:
    form = kitchen.forms[row.name]
    cells = [f"`{row.name}`", form.how]
    if row.unmade is not None:
        cells += [NOTHING, NOTHING, f"cannot be made here: {row.unmade}", *[NOTHING] * 4]
    elif row.failed is not None:
        cells += [NOTHING, NOTHING, f"**defect**: {row.failed}", *[NOTHING] * 4]
    else:
        size = NOTHING if row.size is None else f"{row.size / 1e6:.2f}"
        cells += [size, NOTHING if row.sites is None else str(row.sites), _levels(row)]
        cells += _figures(row)
    cells += last
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _levels(row: Row) -> str:
    found = ", ".join(f"**{level}**" if level == row.level else level for level in row.levels)
    reasons: list[str] = []
    if row.refused:
        reasons = [f"refused: {_said(row.refused)}"]
    elif row.why_no_rows:
        what = "rows for literal repeats alone" if "rows" in row.levels else "no rows"
        reasons = [f"{what}: {row.why_no_rows}"]
    if row.refusals and found:
        reasons.append(f"not all attention: {row.refusals[0]}")
    return "; ".join(([found] if found else []) + reasons)


def _said(refusal: str) -> str:
    """A refusal without what it was looked for, which is the same every time."""
    return refusal.partition(" Found: ")[2] or refusal


def _figures(row: Row) -> list[str]:
    if row.level is None:
        return [NOTHING] * 4
    by_batch = []
    for batch in ("1", "4"):
        said = {
            library: text for key, text in row.misses.items() for b, library in [key.split()] if b == batch
        }
        same = len(set(said.values())) == 1
        by_batch.append(next(iter(said.values())) if same else ", ".join(f"{k} {v}" for k, v in said.items()))
    stored = " / ".join("0" if error == 0 else f"{error:.1g}" for error in row.stored.values())
    assert row.hits is not None and row.ratio is not None
    hits = " / ".join(f"{share:.0%}" for share in row.hits)
    return ["; ".join(dict.fromkeys(by_batch)), stored, hits, _ratio(row)]


def _ratio(row: Row) -> str:
    assert row.ratio is not None
    return f"{row.ratio[0]:.3f} ± {row.ratio[1]:.3f}"


def _at_base_width(row: Row | None, with_all_layers: Row | None) -> str:
    """The time of a repeat at base width, and whether something else was wrong there."""
    if row is None or row.unmade is not None:
        return NOTHING
    if with_all_layers is not None:
        return f"{_at_base_width(row, None)}; {DEEP} layers: {_at_base_width(with_all_layers, None)}"
    if row.failed is not None:
        return f"**defect**: {row.failed}"
    if row.level is None:
        return f"refused: {_said(row.refused or NOTHING)}"
    return _ratio(row) + ("" if _right(row) else "; **not right**")


def _time(row: Row, found: float | str | None) -> str:
    """A figure of a trained model; else why there is none."""
    if isinstance(found, float):
        return f"{found:.2f}"
    if found is None:
        return NOTHING
    return "as under levels" if found == row.refused else _said(found)
