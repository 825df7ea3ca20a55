"""One run of `optimize`: what all its steps share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from onnx_memo.data.samples import Samples
from onnx_memo.graph.opened import OpenedModel
from onnx_memo.progress import Progress, silent
from onnx_memo.proof.answer import Answer, Outputs
from onnx_memo.proof.goal import Goal
from onnx_memo.reference import Reference


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
        reference: whose answers count; None: the original's own.
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
    reference: Reference | None = None

    @property
    def path(self) -> Path:
        """The original model's file."""
        return self.opened.path

    def answer(self, outputs: Outputs, samples: Samples, at: int) -> Answer:
        """What answers to a sample are compared with; `outputs` is what the original gives.

        Raises:
            MemoError: the reference does not suit the original.
        """
        feeds, real = samples.arrays[at], samples.real(at)
        if self.reference is None:
            return Answer(outputs, real, feeds)
        return Answer(self.reference.like(outputs, feeds, at), real, feeds, outputs)

    def on_trial(self) -> Job:
        """The same with notes of its own, for a step whose result may be dropped."""
        return replace(self, notes=[])
