"""Run representative inputs through the probed model and stream what attention gave to disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.data.samples import Samples
from onnx_memo.files import NewFile
from onnx_memo.graph.groups import Group
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.probe import add_outputs
from onnx_memo.graph.site import Site
from onnx_memo.keys.learned import SKETCH_WIDTH, sketch
from onnx_memo.keys.network import segment_means
from onnx_memo.levels.sites.payload import PAYLOADS
from onnx_memo.operators.spec import SEGMENTS
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session, real_length, run_model
from onnx_memo.store.data import HALF_MAX
from onnx_memo.threads import side_by_side

TOO_LARGE = "numbers that half precision cannot hold"


@dataclass(frozen=True)
class Capture:
    """What the probes gave, one file a site and kind, samples one after the other, unpadded.

    Attributes:
        folder: holds the files.
        level: of the payloads.
        lengths: tokens of each sample at the sites, i64[N].
        unfit: reasons by site name for sites whose payload cannot be stored.
        widths: of the states of groups, of which repeats are told.
    """

    folder: Path
    level: str
    lengths: npt.NDArray[np.int64]
    unfit: dict[str, str]
    widths: tuple[int, ...] = ()

    def states(self, group: int) -> Path:
        """The file with the states of a group, in the store's own form, f16[T, d]."""
        return self.folder / f"states.{group}"

    def states_means(self, group: int) -> npt.NDArray[np.float32]:
        """Their segment means, mapped: f32[N, SEGMENTS * d]."""
        shape = (len(self.lengths), SEGMENTS * self.widths[group])
        return np.memmap(self.folder / f"states.{group}.means", np.float32, "r", shape=shape)

    def means(self, site: Site) -> npt.NDArray[np.float32]:
        """The segment means of the hidden states, mapped: f32[N, SEGMENTS * d]."""
        shape = (len(self.lengths), SEGMENTS * site.width)
        return np.memmap(self.folder / f"{site.name}.means", np.float32, "r", shape=shape)

    def sketches(self, site: Site) -> npt.NDArray[np.float32]:
        """Sketches of the payloads (`onnx_memo.keys.learned`), mapped: f32[N, SKETCH_WIDTH]."""
        shape = (len(self.lengths), SKETCH_WIDTH)
        return np.memmap(self.folder / f"{site.name}.{self.level}.sketches", np.float32, "r", shape=shape)

    def payload(self, site: Site) -> Path:
        """The file with the payload in the store's own form, f16 (`docs/bundle.md`)."""
        return self.folder / f"{site.name}.{self.level}"


def capture(
    opened: OpenedModel,
    sites: Sequence[Site],
    level: str,
    samples: Samples,
    folder: Path,
    advance: Callable[[], None],
    groups: Sequence[Group] = (),
) -> Capture:
    """Run `samples` through the model and write means and payloads to `folder`.

    Args:
        opened: the model in which `sites` were found.
        sites: where to probe.
        level: which payload to keep, `probs` or `output`.
        samples: sorted by length by the caller; that order is kept.
        folder: an empty folder.
        advance: called after each sample.
        groups: of the sites, where repeats are told by their states: then these are written in place of
            what keys of single sites are made from.

    Raises:
        MemoError: the model cannot run a sample, or samples have no common length at the sites.
    """
    payload_kind = PAYLOADS[level]
    copy = opened.copy()
    wanted: list[ir.Value] = []
    for twin in map(copy.twin, sites):
        wanted += [twin.hidden, payload_kind.captured(twin)]
    wanted += [copy.twin(group.states) for group in groups]
    add_outputs(copy.model, wanted)
    position = {value: at for at, value in enumerate(copy.model.graph.outputs)}
    places = [position[value] for value in wanted]
    session = open_session(copy.model, opened.folder, session_options(native=False, threads=1))
    lengths: list[int] = []
    unfit: dict[str, str] = {}
    with _Files(folder, sites, level, groups) as files:
        runs = side_by_side(lambda at: run_model(session, samples.arrays[at], at), range(len(samples)))
        for feeds, results in zip(samples.arrays, runs, strict=True):
            hidden = results[places[0]]
            n = real_length(feeds, sites[0].mask, hidden)
            lengths.append(n)
            for at, site in enumerate(sites):
                states = results[places[2 * at]]
                payload = payload_kind.unpadded(results[places[2 * at + 1]], n)
                if states.shape[1] != hidden.shape[1]:
                    unfit[site.name] = "its sequences differ in length from those of the first site"
                elif not np.abs(payload).max(initial=0.0) <= HALF_MAX:
                    unfit[site.name] = f"it makes {TOO_LARGE}"
                files.write_payload(site, payload)
                if not groups:
                    files.write_learned(site, segment_means(states[0, :n]), payload)
            for at, group in enumerate(groups):
                states = results[places[2 * len(sites) + at]][0, :n]
                if not np.abs(states).max(initial=0.0) <= HALF_MAX:
                    unfit |= {site.name: f"it follows from {TOO_LARGE}" for site in group.sites}
                files.write_states(at, states)
            advance()
    widths = tuple(group.sites[0].width for group in groups)
    return Capture(folder, level, np.asarray(lengths, np.int64), unfit, widths)


class _Files(ExitStack):
    """Open files, appended sample by sample: the payload of each site, and two of each group, or of each site
    if there are none.
    """

    def __init__(self, folder: Path, sites: Sequence[Site], level: str, groups: Sequence[Group]) -> None:
        super().__init__()

        def opened(names: Iterable[str]) -> list[NewFile]:
            return [self.enter_context(NewFile(folder / name, replace=True)) for name in names]

        names = [site.name for site in sites]
        learned, numbers = [] if groups else names, range(len(groups))
        self.payload = dict(zip(names, opened(f"{name}.{level}" for name in names), strict=True))
        self.means = dict(zip(learned, opened(f"{name}.means" for name in learned), strict=True))
        self.sketches = dict(
            zip(learned, opened(f"{name}.{level}.sketches" for name in learned), strict=True)
        )
        self.states = opened(f"states.{number}" for number in numbers)
        self.states_means = opened(f"states.{number}.means" for number in numbers)

    def write_payload(self, site: Site, payload: npt.NDArray[np.float32]) -> None:
        with np.errstate(over="ignore"):
            self.payload[site.name].array(payload.astype(np.float16))

    def write_learned(
        self, site: Site, means: npt.NDArray[np.float32], payload: npt.NDArray[np.float32]
    ) -> None:
        self.means[site.name].array(means)
        self.sketches[site.name].array(sketch(payload))

    def write_states(self, group: int, states: npt.NDArray[np.float32]) -> None:
        self.states_means[group].array(segment_means(states))
        with np.errstate(over="ignore"):
            self.states[group].array(states.astype(np.float16))
