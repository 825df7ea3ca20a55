"""Run the original model and see its outputs beside the states of one site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.data.samples import Arrays
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.graph.probe import add_outputs
from onnx_memo.graph.site import Site
from onnx_memo.keys.network import segment_means
from onnx_memo.runtime import session_options
from onnx_memo.sessions import open_session, real_length, run_model


class Observer:
    """The original model, with the hidden states of `sites` among its outputs."""

    def __init__(self, opened: OpenedModel, sites: Sequence[Site]) -> None:
        copy = opened.copy()
        self.outputs = opened.outputs
        self.hidden = {site.name: str(site.hidden.name) for site in sites}
        self.mask = sites[0].mask
        add_outputs(copy.model, [copy.twin(site).hidden for site in sites])
        self.all = [str(value.name) for value in copy.model.graph.outputs]
        self.session = open_session(copy.model, opened.folder, session_options(native=False))

    def run(
        self, feeds: Arrays, site: str | None = None
    ) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.float32], int]:
        """One request: the model's outputs, and at `site` the segment means and the length."""
        outputs, states = self._run(feeds)
        if site is None:
            return outputs, np.zeros(0, np.float32), 0
        return outputs, segment_means(states[site]), len(states[site])

    def run_all(
        self, feeds: Arrays
    ) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[np.float32]], int]:
        """One request: the model's outputs, the segment means by site, and the length at the first site."""
        outputs, states = self._run(feeds)
        means = {site: segment_means(rows) for site, rows in states.items()}
        return outputs, means, len(next(iter(states.values())))

    def _run(self, feeds: Arrays) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[np.float32]]]:
        """One request: the model's outputs, and by site the hidden states of its real tokens."""
        results = dict(zip(self.all, run_model(self.session, feeds, 0), strict=True))
        outputs = {name: results[name] for name in self.outputs}
        n = real_length(feeds, self.mask, results[next(iter(self.hidden.values()))])
        return outputs, {site: results[name][0, :n] for site, name in self.hidden.items()}
