"""What a hit reuses of an attention block: its projected output, or its probabilities.

All that differs between the levels `output` and `probs` stands here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from onnx_memo.graph.build import Builder
from onnx_memo.graph.site import Site
from onnx_memo.operators.spec import DOMAIN
from onnx_memo.store.layout import Count, pairs, tokens


class Payload(ABC):
    """One of them.

    Attributes:
        level: its name.
        rows: how many payload rows each entry takes.
    """

    level: str
    rows: Count

    @abstractmethod
    def width(self, site: Site) -> int:
        """Numbers in a payload row."""

    @abstractmethod
    def captured(self, site: Site) -> ir.Value:
        """The value that is stored."""

    @abstractmethod
    def unpadded(self, array: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
        """What is kept of that value in a run of one request with `length` real tokens."""

    @abstractmethod
    def cut(self, site: Site) -> tuple[ir.Value, Sequence[ir.Value]]:
        """The value that a hit replaces, and the boundary of what then need not be computed."""

    @abstractmethod
    def fetch(
        self, b: Builder, site: Site, entry: ir.Value, stored: Sequence[ir.Value]
    ) -> tuple[ir.Value, int]:
        """The value that replaces it, [B, L, width], and its width; from payload, offsets, lengths."""


class _Output(Payload):
    """The projected output of the block."""

    level = "output"
    rows = staticmethod(tokens)

    def width(self, site: Site) -> int:
        return site.output_width

    def captured(self, site: Site) -> ir.Value:
        return site.output

    def unpadded(self, array: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
        return array[0, :length]

    def cut(self, site: Site) -> tuple[ir.Value, Sequence[ir.Value]]:
        return site.output, [site.hidden]

    def fetch(
        self, b: Builder, site: Site, entry: ir.Value, stored: Sequence[ir.Value]
    ) -> tuple[ir.Value, int]:
        fetched = b.op("MemoFetch", entry, *stored, b.dim(site.hidden, 1), domain=DOMAIN)
        return fetched, site.output_width


class _Probabilities(Payload):
    """The attention probabilities; the request's own values are weighted by them."""

    level = "probs"
    rows = staticmethod(pairs)

    def width(self, site: Site) -> int:
        return site.heads

    def captured(self, site: Site) -> ir.Value:
        return site.probabilities

    def unpadded(self, array: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
        return array[..., :length, :length]

    def cut(self, site: Site) -> tuple[ir.Value, Sequence[ir.Value]]:
        assert site.merged_context is not None and site.values is not None, "checked by Site.levels"
        return site.merged_context, [site.hidden, site.values]

    def fetch(
        self, b: Builder, site: Site, entry: ir.Value, stored: Sequence[ir.Value]
    ) -> tuple[ir.Value, int]:
        assert site.values is not None, "checked by Site.levels"
        return b.op("MemoContext", entry, site.values, *stored, domain=DOMAIN), site.context_width


OUTPUT, PROBABILITIES = _Output(), _Probabilities()
PAYLOADS: dict[str, Payload] = {payload.level: payload for payload in (OUTPUT, PROBABILITIES)}
