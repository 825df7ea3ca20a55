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
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.site import Site
from onnx_memo.levels.inserter import add_operators
from onnx_memo.levels.lookup import LENGTHS
from onnx_memo.levels.sites.capture import Capture
from onnx_memo.levels.sites.guard import Found, Guard, SitesInserter
from onnx_memo.levels.sites.layout import offsets_name, payload_spec
from onnx_memo.levels.sites.payload import PAYLOADS
from onnx_memo.levels.sites.plan import Plan
from onnx_memo.proof.answer import Outputs
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session, place_weights
from onnx_memo.store.data import offsets_of

ENTRY = "memo_trial_entry"
ENABLED = "memo_trial_enabled"


class _TrialInserter(SitesInserter):
    """Takes the entry and the decision from the caller."""

    def __init__(self, model: ir.Model) -> None:
        super().__init__(model, None)  # a batch of one, with an entry whether it is reused or not
        self.entry = ir.val(ENTRY, ir.DataType.INT64, ["memo_batch"])
        self.enabled = ir.val(ENABLED, ir.DataType.BOOL, ["memo_sites"])
        model.graph.inputs.extend([self.entry, self.enabled])
        self.count = 0

    def find(self, b: Builder, guard: Guard) -> Found:
        del guard
        own = b.op("Gather", self.enabled, b.const(self.count, np.int64), axis=0)
        self.count += 1
        return Found(self.entry, own)


class Trial:
    """A plan on trial, for entries of the given captures (by level)."""

    def __init__(
        self,
        opened: OpenedModel,
        plan: Plan,
        captures: Mapping[str, Capture],
        *,
        profile: bool = False,
    ) -> None:
        """The plan's sites are among those that were found in the model."""
        folder = next(iter(captures.values())).folder
        copy = opened.copy()
        place_weights(copy.model, opened.folder, folder)
        self.names = list(plan.levels)
        self.outputs = opened.outputs
        sites = [site for site in opened.findings.sites if site.name in plan.levels]
        guards = [_guard(copy.twin(site), plan.levels[site.name], captures) for site in sites]
        _TrialInserter(copy.model).insert(guards)
        add_operators(copy.model)
        options = session_options(threads=1)
        if profile:
            options.enable_profiling = True
            options.profile_file_prefix = str(folder / "profile")
        self.session = open_session(copy.model, folder, options, scratch=True)

    def run(self, feeds: Arrays, entry: int, enabled: Sequence[bool] | npt.NDArray[np.bool_]) -> Outputs:
        """The outputs of one request (a batch of one) that reuses `entry` at the enabled sites."""
        trial = {ENTRY: np.asarray([entry], np.int64), ENABLED: np.asarray(enabled, np.bool_)}
        return dict(zip(self.outputs, self.session.run(None, feeds | trial), strict=True))


def _guard(site: Site, level: str, captures: Mapping[str, Capture]) -> Guard:
    captured, payload = captures[level], PAYLOADS[level]
    lengths = captured.lengths
    return Guard(
        site,
        payload,
        payload_spec(site, level).holding(captured.payload(site), lengths).in_place(),
        ir.tensor(offsets_of(payload.rows(lengths)), name=offsets_name(level)),
        ir.tensor(lengths, name=LENGTHS),
        None,
    )


def site_costs(
    opened: OpenedModel,
    plan: Plan,
    captures: Mapping[str, Capture],
    requests: Sequence[tuple[Arrays, int]],
    rounds: int = 3,
) -> dict[str, tuple[float, float]]:
    """Microseconds that each site of the plan takes to compute and to reuse, by ONNX Runtime's profile.

    Args:
        opened: the original model.
        plan: the sites and levels.
        captures: by level.
        requests: some requests, each with an entry that it may reuse.
        rounds: how often each runs; medians count.
    """
    trial = Trial(opened, plan, captures, profile=True)
    everywhere = np.ones(len(trial.names), np.bool_)
    for _ in range(rounds):
        for feeds, entry in requests:
            trial.run(feeds, entry, ~everywhere)
            trial.run(feeds, entry, everywhere)
    file = Path(trial.session.end_profiling())
    durations = _durations(file)
    file.unlink()
    # Runs alternate: computed, reused.
    return {
        name: (float(np.median(durations[name][::2])), float(np.median(durations[name][1::2])))
        for name in trial.names
    }


def _durations(profile: Path) -> dict[str, list[float]]:
    """Microseconds that each guard's `If` took, by its site, run by run."""
    durations: dict[str, list[float]] = defaultdict(list)
    with open(profile, encoding="utf-8") as lines:  # an event a line, most of them of no interest
        for line in lines:
            if "/if_kernel_time" in line:
                event = json.loads(line.strip().rstrip(","))
                name = event["name"].removeprefix("memo/").removesuffix("/if_kernel_time")
                durations[name].append(event["dur"])
    return durations
