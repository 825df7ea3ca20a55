"""What an answer comes down to where a decision rests on it: a vector, a label, a number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_memo.proof.answer import Answer, Outputs
from onnx_memo.proof.metrics import Mask

Vector = npt.NDArray[np.float64]
Decide = Callable[[Outputs, Outputs], Any]  # of outputs and inputs of a request, by name


@dataclass(frozen=True)
class Value:
    """What a decision rests on.

    Attributes:
        what: for people, as in "output 'logits'".
        taken: takes it from an answer.
    """

    what: str
    taken: Callable[[Answer], Any]

    def of(self, answer: Answer) -> Any:
        """What it is of an answer, taken once."""
        if self.taken not in answer.values:
            answer.values[self.taken] = self.taken(answer)
        return answer.values[self.taken]


def vector_value(name: str) -> Value:
    """An output of vectors, [1, d], or [1, L, d] averaged over the real tokens; of length 1."""
    return Value(f"output '{name}'", lambda answer: vector_of(answer.outputs[name], answer.real(name)))


def label_value(name: str) -> Value:
    """The best class of an output [1, C], or [1, L, C] for each real token; -1 of numbers that broke."""
    return Value(f"output '{name}'", lambda answer: label_of(answer.outputs[name], answer.real(name)))


def score_value(name: str) -> Value:
    """An output of one number; of one number a token, the mean over the real ones."""
    return Value(f"output '{name}'", lambda answer: score_of(answer.outputs[name], answer.real(name)))


def likelihood_value(name: str, ids: str, first: Answer) -> Value:
    """The log-likelihood of a request, by its token logits [1, L, V] and its ids [1, L].

    Of a masked language model that is the pseudo-log-likelihood, without masking: each token by the logits
    at its place. Of one that reads from left to right, by those before it. Which of both a model is, `first`
    tells: by the wrong logits its tokens are much less likely.
    """
    own, before = (log_probabilities(first, name, ids, shift) for shift in (0, 1))
    shift = int(len(before) > 0 and before.mean() > own.mean())
    how = "log-likelihood by the logits before each token" if shift else "pseudo-log-likelihood"
    what = f"{how}, of output '{name}' and input '{ids}'"
    return Value(what, lambda answer: float(log_probabilities(answer, name, ids, shift).sum()))


def decided_value(decide: Decide) -> Value:
    """What a function of outputs and inputs says."""
    return Value("the given function", lambda answer: decide(answer.outputs, answer.inputs))


def vector_of(output: npt.NDArray[Any], real: Mask | None) -> Vector:
    """A request's vector, of length 1, f64[d]: an output [1, d], or [1, L, d] averaged over the real tokens.

    Zero for a vector of zeros, or one that is not finite.
    """
    return unit(_rows(output, real).mean(axis=0) if output.ndim > 2 else output[0].astype(np.float64))


def unit(vector: npt.NDArray[Any]) -> Vector:
    """A vector f64[d] of length 1 in the same direction; zero for one of zeros, or one that is not finite."""
    flat = np.asarray(vector, np.float64).ravel()
    size = float(np.sqrt(flat @ flat))
    return flat / size if np.isfinite(size) and size else np.zeros_like(flat)


def label_of(output: npt.NDArray[Any], real: Mask | None) -> npt.NDArray[np.int64]:
    """The best classes, i64[1], or i64[n] of n real tokens; -1 where a number is NaN."""
    rows = _rows(output, real) if output.ndim > 2 else output.astype(np.float64)
    return np.where(np.isnan(rows).any(axis=-1), -1, rows.argmax(axis=-1))


def score_of(output: npt.NDArray[Any], real: Mask | None) -> float:
    """One number; the mean of those of the real tokens."""
    rows = _rows(output, real) if output.ndim > 2 else np.asarray(output, np.float64)
    return float(rows.mean())


def log_probabilities(answer: Answer, name: str, ids: str, shift: int) -> Vector:
    """For each real token that of what stands there, by the logits `shift` places before, f64[n]."""
    logits, tokens, real = (
        answer.outputs[name][0].astype(np.float64),
        answer.inputs[ids][0],
        answer.real(name),
    )
    chosen = np.arange(shift, len(tokens))
    if real is not None and len(real) == len(tokens):
        chosen = chosen[real[chosen]]
    rows = logits[chosen - shift]
    peak = rows.max(axis=-1)
    total = peak + np.log(np.exp(rows - peak[:, None]).sum(axis=-1))
    found: Vector = rows[np.arange(len(rows)), tokens[chosen]] - total
    return found


def _rows(output: npt.NDArray[Any], real: Mask | None) -> npt.NDArray[np.float64]:
    """The rows of real tokens, f64[n, d], of an output [1, L, d]."""
    rows = output[0].astype(np.float64).reshape(-1, output.shape[-1])
    return np.asarray(rows[real] if real is not None and len(real) == len(rows) else rows)
