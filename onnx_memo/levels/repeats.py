"""What is stored for requests that repeat an input: each input once, as many as the memo data may hold."""

from __future__ import annotations

import numpy as np

from onnx_memo.data.distinct import distinct
from onnx_memo.data.samples import Samples
from onnx_memo.job import Job
from onnx_memo.store.budget import Budget
from onnx_memo.store.layout import Footprint
from onnx_memo.words import counted


def inputs_to_store(job: Job, size: Footprint) -> Samples:
    """The distinct inputs of a job, shortest first (the store's order).

    Where `max_bytes` does not hold all, those that cover the others best.

    Args:
        job: its notes say what is left out.
        size: what inputs take.

    Raises:
        MemoError: not a single input fits.
    """
    numbers, (counts,) = distinct(job.samples, range(len(job.samples)))
    stored = job.samples.take(numbers)
    if len(stored) < len(job.samples):
        one, many = "input repeats another and is stored once", "inputs repeat others and are stored once"
        job.notes.append(counted(len(job.samples) - len(stored), one, many))
    if job.max_bytes is None:
        return stored
    budget = Budget(job.opened, stored, size, job.max_bytes, job.progress)
    kept = np.flatnonzero(budget.fill(counts, counts > 0))
    if len(kept) < len(counts):
        job.notes.append(budget.note(len(kept)))
    return stored.take(kept.tolist())
