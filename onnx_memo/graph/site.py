"""An attention block, as `onnx_memo.graph.sites` finds it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

LEVELS = ("probs", "output")


@dataclass(frozen=True)
class Site:
    """One attention block. Values are the model's own; B batch, L length, d width, H heads."""

    name: str
    softmax: ir.Node
    hidden: ir.Value  # [B, L, d]
    probabilities: ir.Value  # [B, H, L, L] or [B * H, L, L]
    context: ir.Value  # the product of probabilities and values, heads apart
    output: ir.Value  # [B, L, d'], projected, before the bias where that stands apart
    mask: ir.Value | None  # graph input [B, L], 1 = real token; None: nothing is masked
    positions: ir.Value | None  # graph input [B, L], the tokens' positions; None: the caller gives none
    turns: bool  # whether its tokens attend to each other in the same way if padding stands in front of them
    heads: int
    length: int | None  # L where the model fixes it
    why_no_level: str | None  # why nothing of it alone can be reused, whatever the level
    width: int  # d
    output_width: int  # d'
    context_width: int  # H * dv, where the context takes the merged form; else 0
    # Of the level `probs`: values and context with the heads side by side, [B, L, H * dv].
    values: ir.Value | None
    merged_context: ir.Value | None
    region: tuple[ir.Node, ...]  # the nodes that a hit at the level `output` saves
    share: float | None  # of the model's multiply-adds, 0 to 1; None: not known
    why_no_probs: str | None

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels at which this site can be guarded."""
        if self.why_no_level is not None:
            return ()
        return LEVELS if self.why_no_probs is None else ("output",)


@dataclass(frozen=True)
class Refusal:
    """A softmax or attention operator, by its name, that is not taken for a site, with the reason."""

    name: str
    reason: str
    node: ir.Node | None = None


@dataclass(frozen=True)
class Findings:
    """What `find_sites` found, in the model's order; `notes` say what was assumed.

    Attributes:
        counted: whether the attention only counts the ones of its mask, so that zeros mean padding at the end
            alone.
        called_mask: where there are no sites, the input that is taken for the padding mask for its name.
        contexts: hidden states [B, L, d] that values of refused attention are made of: where that is cross-
            attention, those of another sequence.
    """

    sites: list[Site]
    refusals: list[Refusal]
    notes: list[str]
    counted: bool = False
    called_mask: ir.Value | None = None
    contexts: frozenset[ir.Value] = frozenset()

    @property
    def masks(self) -> tuple[ir.Value, ...]:
        """The inputs that say what is padding, each once."""
        found = dict.fromkeys([*(site.mask for site in self.sites), self.called_mask])
        return tuple(value for value in found if value is not None)

    @property
    def positions(self) -> str | None:
        """The name of the input by which the attention takes the positions of tokens; None: it takes none."""
        return next((str(site.positions.name) for site in self.sites if site.positions is not None), None)

    @property
    def mask(self) -> str | None:
        """The name of the input that the attention takes for its padding mask; None: it takes none."""
        return next((str(value.name) for value in self.masks), None)
