"""Which decisions a bundle keeps of the held-out requests, beside the distances that it was made for."""

from __future__ import annotations

import onnxruntime as ort

from onnx_memo.levels.base import Verdict
from onnx_memo.proof.answer import Answer
from onnx_memo.sessions import run_model


def neighbours_kept(
    verdict: Verdict, original: ort.InferenceSession, bundle: ort.InferenceSession
) -> str | None:
    """In a sentence, how many held-out requests have the same nearest neighbour; None without vectors.

    Requests that reuse nothing get the original's answer, and keep theirs.
    """
    measure, samples = verdict.goal.neighbours, verdict.parts.held_out
    if measure is None:
        return None
    names = [value.name for value in original.get_outputs()]
    changed = 0.0
    for at, feeds in enumerate(samples.arrays):
        if verdict.hits[at]:
            outputs = dict(zip(names, run_model(original, feeds, at), strict=True))
            have = dict(zip(names, run_model(bundle, feeds, at), strict=True))
            changed += measure.error(Answer(outputs, samples.real(at), feeds), have)
    kept = len(samples) - int(changed)
    return (
        f"{kept / len(samples):.1%} of the held-out requests ({kept} of {len(samples)}) keep their nearest "
        f"neighbour among {len(measure.vectors)} inputs of the sample, within {measure.slack:g} times its "
        "distance"
    )
