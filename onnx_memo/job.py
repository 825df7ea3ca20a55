"""One run of `optimize`: what all its steps share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from onnx_memo.data.samples import Samples
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.progress import Progress, silent
from onnx_memo.proof.goal import Goal


@dataclass(frozen=True)
class Job:
    """What is to be done, and where.

    Attributes:
        opened: the original model.
        samples: the user's inputs, repeats included.
        scratch: a folder for captured tensors, removed in the end.
        goal: how wrong answers may be; None: only repeats are reused, or what lies within `threshold`.
        threshold: the key distance that the user set; None: the level's own.
        max_bytes: the most that the memo data may take; None: no bound.
        compact: leave out the original's weights.
        progress: is called for each step and its parts.
        notes: what people should know; steps add to it.
    """

    opened: OpenedModel
    samples: Samples
    scratch: Path
    goal: Goal | None = None
    threshold: float | None = None
    max_bytes: int | None = None
    compact: bool = False
    progress: Progress = silent
    notes: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The original model's file."""
        return self.opened.path

    def on_trial(self) -> Job:
        """The same with notes of its own, for a step whose result may be dropped."""
        return replace(self, notes=[])
