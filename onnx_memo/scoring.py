"""The score of an answer: what inputs are ranked by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onnx_memo.data.samples import Arrays, ModelInput, Samples
from onnx_memo.errors import MemoError

# From outputs and inputs, arrays by name with a first axis of 1, to a number.
Score = Callable[[Arrays, Arrays], float]

TOKENS = "input_ids"


def score_of(
    asked: str | Score | None, outputs: Arrays, samples: Samples, inputs: Sequence[ModelInput]
) -> Score:
    """The score that was asked for: None, `likelihood`, or a function.

    Args:
        asked: None: the output of one number.
        outputs: of the first sample.
        samples: all of them.
        inputs: what the model takes.

    Raises:
        MemoError: there is no such score, or the model has no outputs for it.
    """
    if asked is None:
        return _only_number(outputs)
    if callable(asked):
        return asked
    if asked != "likelihood":
        raise MemoError(f"there is no score '{asked}': take 'likelihood', or give a function")
    return _likelihood(outputs, samples, inputs)


def likelihood(logits: np.ndarray, tokens: np.ndarray, real: np.ndarray | None = None) -> float:
    """How likely a model finds its input: the logarithms of the probabilities of its tokens, added up.

    The tokens are given as they are, none is masked: one run for an input, where the pseudo-log-likelihood of
    Salazar, Liang, Nguyen and Kirchhoff (2020, arXiv 1910.14659) masks one token after the other.

    Args:
        logits: floats [L, V], of each place's token.
        tokens: that stand there, whole numbers [L].
        real: which are not padding, bool[L]; None: all.
    """
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    own = np.take_along_axis(wide, tokens[:, None], axis=-1)[:, 0]
    logs = own - np.log(np.exp(wide).sum(axis=-1))
    return float(logs.sum() if real is None else logs[real].sum())


def _only_number(outputs: Arrays) -> Score:
    found = [name for name, one in outputs.items() if one.size == 1 and np.issubdtype(one.dtype, np.floating)]
    if len(found) != 1:
        what = "several outputs" if found else "no output"
        raise MemoError(
            f"the model has {what} of one number, among: {', '.join(found or outputs)}; give "
            "score='likelihood', or a function of outputs and inputs"
        )
    return lambda given, _: float(given[found[0]].reshape(()))


def _likelihood(outputs: Arrays, samples: Samples, inputs: Sequence[ModelInput]) -> Score:
    tokens = samples.arrays[0].get(TOKENS)
    if tokens is None or tokens.ndim != 2:
        raise MemoError(f"score='likelihood' reads tokens from the input '{TOKENS}', and the model has none")
    vocabulary = next(one.rows for one in inputs if one.name == TOKENS)
    found = [
        name
        for name, one in outputs.items()
        if one.ndim == 3 and one.shape[1] == tokens.shape[1] and one.shape[2] == vocabulary
    ]
    if not found:
        raise MemoError(
            f"score='likelihood' reads logits [1, tokens, {vocabulary or 'vocabulary'}], as masked language "
            f"models give them, and there are none among: {', '.join(outputs)}"
        )
    name = found[0]
    mask = samples.mask

    def score(given: Arrays, inputs: Arrays) -> float:
        return likelihood(given[name][0], inputs[TOKENS][0], None if mask is None else inputs[mask][0] != 0)

    return score
