"""The sections of `docs/benchmarks.md` beside the workloads: their texts and columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tools import bench_rows as rows_of
from tools.bench_levels import LINES, REQUESTS, STORED, levels
from tools.bench_rows import INT8_LINES, Bench
from tools.measure import Figures
from tools.pages import Column, table

ERRORS: tuple[Column, ...] = (
    ("error, mean", "mean", ".1e"),
    ("95th percentile", "p95", ".1e"),
    ("worst", "worst", ".1e"),
)


@dataclass(frozen=True)
class Table:
    """A table of `docs/benchmarks.md`."""

    measure: Callable[[Bench], list[Figures]]
    told: str
    columns: tuple[Column, ...]

    def text(self, rows: Sequence[Figures], machine: str) -> str:
        """The section: what was measured, on what, and the figures; reasons where there are none."""
        reasons = [f"- {' '.join(str(row['reason']).split())}" for row in rows if row.get("reason")]
        shown = table(self.columns, [row for row in rows if not row.get("reason")])
        return "\n".join([f"{self.told} {machine}.\n", shown, *reasons]).rstrip() + "\n"


TABLES = {
    "repeats": Table(
        rows_of.repeats,
        "MiniLM, no tolerance: literal repeats are reused, and unrelated pieces of running text are not. "
        "Ratios are to the original's time; errors are relative (L2), the worst.",
        (
            ("tokens", "tokens", "d"),
            ("repeats, int8", "int8", ".3f"),
            ("ours, native", "hit native", ".3f"),
            ("stock", "hit stock", ".3f"),
            ("error", "hit error", ".1e"),
            ("unrelated, native", "miss native", ".3f"),
            ("stock", "miss stock", ".3f"),
            ("error", "miss error", ".1e"),
        ),
    ),
    "levels": Table(
        levels,
        "![Error against time, by level](levels.svg)\n\nEach level with guards that reuse as much as it "
        "can, made strict step by step by `memo_strictness`; `rows, int8` has its products in int8. `probs` "
        f"is AttMemo's way. The samples are the first {LINES['a']} and {LINES['e']} lines of (a) and (e), "
        f"{STORED:.0%} of them stored; {REQUESTS} unseen requests.",
        (
            ("workload", "workload", ""),
            ("level", "level", ""),
            ("strictness", "strictness", "g"),
            ("ratio", "ratio", ".3f"),
            *ERRORS,
        ),
    ),
    "changes": Table(
        rows_of.changes,
        "AntiBERTy, the bundle of (b) at 0.01, which was proven for 1 to 4 substitutions, shown others.",
        (
            ("substitutions", "changes", "d"),
            ("ratio", "ratio", ".3f"),
            ("hits", "hits", ".0%"),
            ("rows run", "rows", ".1%"),
            *ERRORS,
        ),
    ),
    "batch": Table(
        rows_of.batch,
        "The bundles of (a) and (e) at 0.01, native, requests in batches.",
        (("requests", "requests", ""), ("batch", "size", "d"), ("ratio", "ratio", ".3f"), *ERRORS),
    ),
    "int8": Table(
        rows_of.on_int8,
        "`optimize --tolerance 0.01` of AntiBERTy in dynamic int8, on the first "
        f"{INT8_LINES} lines of (a): time and error relative to that model.",
        (
            ("level", "level", ""),
            ("ratio to int8", "ratio", ".3f"),
            ("to fp32", "fp32", ".3f"),
            ("hits", "hits", ".1%"),
            ("rows run", "rows", ".1%"),
            *ERRORS,
        ),
    ),
    "causal": Table(
        rows_of.causal,
        "A GPT-2 of 6 layers, 384 wide, with random weights (no trained one is at hand): requests share the "
        "first part of a stored prompt. Bound 0, influence by the rollout, no correction. Errors are the "
        "worst.",
        (
            ("tokens", "tokens", "d"),
            ("shared", "shared", ".0%"),
            ("hits", "hits", ".0%"),
            ("rows run", "rows", ".1%"),
            ("ratio", "ratio", ".3f"),
            ("relative error (L2)", "relative", ".1e"),
            ("largest difference", "apart", ".1e"),
        ),
    ),
    "video": Table(
        rows_of.video,
        "A ViT of 6 layers, 384 wide, 197 rows, with random weights (no trained one is at hand), on frames "
        "of a still camera with noise: an object of 2 x 2 patches is somewhere else in each. "
        "`optimize --tolerance 0.01` on 280 frames, 60 unseen ones.",
        (
            ("level", "level", ""),
            ("ratio", "ratio", ".3f"),
            ("hits", "hits", ".0%"),
            ("rows run", "rows", ".1%"),
            *ERRORS,
        ),
    ),
    "stores": Table(
        rows_of.stores,
        "Microseconds a request of (a) spends to find an entry and choose rows, by ONNX Runtime's profile. "
        "The entries are those of (a), and more with keys scattered like theirs, which share their payloads.",
        (
            ("entries", "entries", ",d"),
            ("MemoLookup", "lookup", ".0f"),
            ("MemoRows", "rows", ".0f"),
        ),
    ),
}
