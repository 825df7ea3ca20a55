"""Try a plan before it is built: reuse a chosen entry, at chosen sites, and see what comes of it.

The trial model has the plan's guards without their lookups. Two inputs more decide instead:
`memo_trial_entry`, int64 [B], and `memo_trial_enabled`, bool [sites]. It reads the captured payloads
where they lie.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.data.samples import Arrays
from onnx_memo.graph.build import Builder
from onnx_memo.graph.load import load_model
from onnx_memo.graph.sites import Site, find_sites
from onnx_memo.levels.sites.capture import Capture
from onnx_memo.levels.sites.guard import Guard, Inserter, add_operators
from onnx_memo.levels.sites.layout import Plan, payload_rows, payload_shape
from onnx_memo.proof.goal import Outputs
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session, place_weights
from onnx_memo.store import data as store

ENTRY = "memo_trial_entry"
ENABLED = "memo_trial_enabled"


class _TrialInserter(Inserter):
    """Takes the entry and the decision from the caller."""

    def __init__(self, model: ir.Model) -> None:
        super().__init__(model)
        self.entry = ir.val(ENTRY, ir.DataType.INT64, ["memo_batch"])
        self.enabled = ir.val(ENABLED, ir.DataType.BOOL, ["memo_sites"])
        model.graph.inputs.extend([self.entry, self.enabled])
        self.count = 0

    def find(self, b: Builder, guard: Guard) -> tuple[ir.Value, ir.Value]:
        del guard
        own = b.op("Gather", self.enabled, b.const(self.count, np.int64), axis=0)
        self.count += 1
        return self.entry, own


class Trial:
    """A plan on trial, for entries of the given captures (by level)."""

    def __init__(
        self, path: Path, plan: Plan, captures: Mapping[str, Capture], *, profile: bool = False
    ) -> None:
        folder = next(iter(captures.values())).folder
        model = load_model(path)
        place_weights(model, path, folder)
        self.names = list(plan.levels)
        self.outputs = [str(value.name) for value in model.graph.outputs]
        guards = [
            _guard(site, plan.levels[site.name], captures)
            for site in find_sites(model).sites
            if site.name in plan.levels
        ]
        _TrialInserter(model).insert(guards)
        add_operators(model)
        options = session_options(threads=1)
        if profile:
            options.enable_profiling = True
            options.profile_file_prefix = str(folder / "profile")
        self.session = open_session(model, folder, options)

    def run(self, feeds: Arrays, entry: int, enabled: Sequence[bool] | npt.NDArray[np.bool_]) -> Outputs:
        """The outputs of one request (a batch of one) that reuses `entry` at the enabled sites."""
        trial = {ENTRY: np.asarray([entry], np.int64), ENABLED: np.asarray(enabled, np.bool_)}
        return dict(zip(self.outputs, self.session.run(None, feeds | trial), strict=True))


def _guard(site: Site, level: str, captures: Mapping[str, Capture]) -> Guard:
    captured = captures[level]
    lengths = captured.lengths
    path = captured.payload(site)
    payload = ir.ExternalTensor(
        path.name,
        0,
        path.stat().st_size,
        ir.DataType.FLOAT16,
        shape=ir.Shape(payload_shape(site, level, lengths)),
        name=f"memo/{site.name}/payload",
        base_dir=path.parent,
    )
    offsets = store.offsets_of(payload_rows(lengths, level))
    return Guard(
        site,
        level,
        payload,
        ir.tensor(offsets, name=f"memo/offsets/{level}"),
        ir.tensor(lengths, name="memo/lengths"),
        None,
    )


def site_costs(
    path: Path,
    plan: Plan,
    captures: Mapping[str, Capture],
    requests: Sequence[tuple[Arrays, int]],
    rounds: int = 3,
) -> dict[str, tuple[float, float]]:
    """Microseconds that each site of the plan takes to compute and to reuse, by ONNX Runtime's profile.

    Args:
        path: the original model.
        plan: the sites and levels.
        captures: by level.
        requests: some requests, each with an entry that it may reuse.
        rounds: how often each runs; medians count.
    """
    trial = Trial(path, plan, captures, profile=True)
    everywhere = np.ones(len(trial.names), np.bool_)
    for _ in range(rounds):
        for feeds, entry in requests:
            trial.run(feeds, entry, ~everywhere)
            trial.run(feeds, entry, everywhere)
    file = Path(trial.session.end_profiling())
    events = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()
    durations: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("/if_kernel_time"):
            durations[event["name"].removeprefix("memo/").removesuffix("/if_kernel_time")].append(
                event["dur"]
            )
    # Runs alternate: computed, reused.
    return {
        name: (float(np.median(durations[name][::2])), float(np.median(durations[name][1::2])))
        for name in trial.names
    }
