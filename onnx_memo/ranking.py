"""Rank many inputs: score all with a bundle, which is fast, and the best of them with the original."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from onnx_memo.data.given import Data
from onnx_memo.errors import MemoError
from onnx_memo.notebook import Part, Table, as_html, notebook_bar
from onnx_memo.pair import Pair, open_pair
from onnx_memo.progress import Progress
from onnx_memo.proof.answer import Answer
from onnx_memo.proof.choice import Wish, decision_of
from onnx_memo.proof.decisions import Ranking
from onnx_memo.proof.screening import Screening, TopPromise, confirm_best
from onnx_memo.proof.values import Decide, Value, decided_value
from onnx_memo.sessions import run_model
from onnx_memo.words import counted

MOST_SHOWN = 20  # of the ranking, in a notebook
MOST_CALIBRATED = 0.5  # of the inputs: a screen that needs more is none


@dataclass(frozen=True)
class Ranked:
    """One of the best.

    Attributes:
        number: of the line or row of the data that it stands in, from 1.
        score: the original's.
        fast: the bundle's.
    """

    number: int
    score: float
    fast: float


@dataclass(frozen=True)
class Screened:
    """The best of many inputs, all of them scored by the original.

    Attributes:
        ranking: the best first, as many as were asked for.
        inputs: how many were ranked.
        keep, confidence: with this confidence at least the share `keep` of the true top is in `ranking`.
        calibrated: how many inputs, drawn at random, say how far the fast score can be trusted.
        confirmed: how many the original scored, those included.
        expected_share: the share of the true top to expect in `ranking`.
        ratio: the models' time, over that of scoring all with the original, which is taken from the inputs
            that it did score, in proportion to their lengths.
        fast_ratio: the same of the bundle's part of it.
        notes: what people should know.
        fast, scores: of all inputs that could be used, in their order, f64[inputs]: by the bundle, and by the
            original, NaN where it was not asked. Not part of `to_dict`.
    """

    ranking: Sequence[Ranked]
    inputs: int
    keep: float
    confidence: float
    calibrated: int
    confirmed: int
    expected_share: float
    ratio: float
    fast_ratio: float
    notes: Sequence[str]
    fast: npt.NDArray[np.float64] = field(repr=False, compare=False)
    scores: npt.NDArray[np.float64] = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """As one object of JSON: the fields by their names, without the arrays."""
        made = asdict(self)
        return {name: value for name, value in made.items() if name not in ("fast", "scores")}

    def _repr_html_(self) -> str:
        """In a notebook: the ranking, and what it is worth."""
        return as_html(self.parts())

    def parts(self) -> list[Part]:
        """The best of the ranking, and what it is worth."""
        title = f"The top {len(self.ranking)} of {counted(self.inputs, 'input')}"
        rows = [
            [str(place), str(one.number), f"{one.score:.6g}", f"{one.fast:.6g}"]
            for place, one in enumerate(self.ranking[:MOST_SHOWN], 1)
        ]
        parts: list[Part] = [Table(title, ["", "input", "score", "fast score"], rows, words=0)]
        if len(self.ranking) > MOST_SHOWN:
            parts.append(f"and {len(self.ranking) - MOST_SHOWN} more")
        parts.append(
            f"with {self.confidence:.0%} confidence at least {self.keep:.0%} of the true top are among them; "
            f"to expect are {self.expected_share:.1%}"
        )
        parts.append(
            f"the original scored {counted(self.confirmed, 'input')} ({self.confirmed / self.inputs:.1%}), "
            f"{self.calibrated} of them drawn at random; the time was {self.ratio:.3f} of scoring all with "
            f"it, {self.fast_ratio:.3f} for the bundle"
        )
        return [*parts, *(f"note: {note}" for note in self.notes)]


def screen(
    model: Path | str,
    bundle: Path | str,
    data: Data | Path | str,
    *,
    top: float,
    score: str | Decide | None = None,
    lowest: bool = False,
    keep: float = 0.95,
    confidence: float = 0.95,
    calibration: float | None = None,
    seed: int = 0,
    tokenizer: Path | str | None = None,
    threads: int = 1,
    native: bool = True,
    allow_unknown: bool = False,
    progress: Progress = notebook_bar,
) -> Screened:
    """Find the inputs with the best scores, with few runs of the original.

    The bundle scores all inputs. The original scores some, drawn at random, and from the best by the
    bundle's score downwards as many as it takes: with `confidence`, at least the share `keep` of the true
    top is in the result. That holds for any scores; only what is drawn is left to chance
    (`onnx_memo.proof.screening`).

    Args:
        model: the original.
        bundle: made from it.
        data: the inputs to rank, as for `optimize`.
        top: how many are wanted: a count, or below 1 a share of the inputs.
        score: of an answer, higher is better. None: the model's output of one number. `likelihood`: how
            likely the model finds the input (`onnx_memo.scoring.likelihood`). Or a function of outputs and
            inputs, both arrays by name with a first axis of 1, that gives a number.
        lowest: lower is better.
        keep: the share of the true top that is to be found.
        confidence: of that.
        calibration: how many inputs are drawn at random: a count, or below 1 a share. None: as few as can
            prove it.
        seed: of what is drawn.
        tokenizer: a `tokenizer.json`, for text; None: the bundle's.
        threads: of each session.
        native: False leaves the native library out.
        allow_unknown: take text of which more than a tenth of the tokens is unknown to the tokenizer.
        progress: is called for each step and its parts.

    Raises:
        MemoError: the bundle is damaged, the data does not fit, there is no such score, or too many inputs
            would have to be drawn.
    """
    if threads < 1:
        raise MemoError("threads takes a number of at least 1")
    pair = open_pair(
        model,
        bundle,
        data,
        tokenizer=tokenizer,
        threads=threads,
        native=native,
        allow_unknown=allow_unknown,
    )
    count = len(pair.samples)
    promise = TopPromise(count, _count("top", top, count), keep, confidence)
    size = _calibration_size(promise, calibration)
    judge = _value_of(score, _answer(pair, pair.original, 0))
    drawn = np.random.default_rng(seed).choice(count, size, replace=False)
    fast = _Scorer(pair, pair.bundle, judge, lowest, progress("scoring with the bundle", count))
    slow = _Scorer(pair, pair.original, judge, lowest, progress("confirming, of at most", count))
    quick = fast(np.arange(count))
    found = confirm_best(promise, quick, drawn, slow)
    return _told(pair, promise, drawn, quick, found, fast, slow)


class _Scorer:
    """Scores inputs by one of the models, and keeps the seconds that it took for each."""

    def __init__(
        self,
        pair: Pair,
        session: ort.InferenceSession,
        judge: Value,
        lowest: bool,
        advance: Callable[[], None],
    ) -> None:
        self.pair, self.session, self.judge, self.advance = pair, session, judge, advance
        self.sign = -1.0 if lowest else 1.0
        self.seconds = np.zeros(len(pair.samples))
        _answer(pair, session, 0)  # the first run of a session allocates

    def __call__(self, which: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Their scores, higher is better, f64[n]. Raises MemoError where one is no finite number."""
        return np.asarray([self._one(int(at)) for at in which], np.float64)

    def _one(self, at: int) -> float:
        start = time.perf_counter()
        answer = _answer(self.pair, self.session, at)
        self.seconds[at] = time.perf_counter() - start
        made = self.judge.of(answer)
        self.advance()
        if not (isinstance(made, int | float | np.number) and np.isfinite(made)):
            place = self.pair.samples.place(at)
            raise MemoError(
                f"the score of {place} is no finite number but {made}: inputs need one to be ranked"
            )
        return self.sign * float(made)


def _answer(pair: Pair, session: ort.InferenceSession, at: int) -> Answer:
    samples = pair.samples
    outputs = dict(zip(pair.outputs, run_model(session, samples.arrays[at], at), strict=True))
    return Answer(outputs, samples.real(at), samples.arrays[at])


def _value_of(score: str | Decide | None, first: Answer) -> Value:
    """What inputs are ranked by. Raises MemoError where the model does not give it."""
    if callable(score):
        return decided_value(score)
    if score not in (None, "likelihood"):
        raise MemoError(f"there is no score '{score}': take 'likelihood', or give a function")
    try:
        decision = decision_of(Wish(score or "ranking"), first)
    except MemoError as unfit:
        raise MemoError(f"{unfit}; or give a score, a function of outputs and inputs") from unfit
    assert isinstance(decision, Ranking)
    return decision.value


def _count(name: str, number: float, of: int) -> int:
    """A count, or a share below 1, as a count."""
    made = round(number * of) if 0 < number < 1 else number
    if isinstance(number, bool) or not 1 <= made < of or made != int(made):
        raise MemoError(f"{name} takes a count from 1 to {of - 1}, or a share below 1, not {number}")
    return int(made)


def _calibration_size(promise: TopPromise, asked: float | None) -> int:
    """How many inputs are drawn. Raises MemoError where they prove nothing, or would be too many."""
    needed = promise.needed()
    what = f"{promise.keep:.3g} of the top {promise.top} of {promise.inputs} inputs"
    ways = (
        f"draw {needed} (calibration={needed}); give more inputs; or ask for a larger top, whose best come "
        "first, or for a smaller keep or confidence (docs/calibration.md)"
    )
    if asked is not None:
        size = _count("calibration", asked, promise.inputs)
        if size < needed:
            raise MemoError(f"{size} inputs drawn at random cannot prove {what}: {ways}")
        return size
    if needed > MOST_CALIBRATED * promise.inputs:
        raise MemoError(
            f"to prove {what}, the original had to score more than half of them at random: {ways}"
        )
    return needed


def _told(
    pair: Pair,
    promise: TopPromise,
    drawn: npt.NDArray[np.int64],
    quick: npt.NDArray[np.float64],
    found: Screening,
    fast: _Scorer,
    slow: _Scorer,
) -> Screened:
    notes = list(pair.samples.notes)
    if found.depth == promise.inputs:
        notes.append("the fast score is of no use here: the original scored all inputs")
    confirmed = np.isfinite(found.scores)
    sizes = np.asarray([pair.samples.extent(at) for at in range(promise.inputs)])
    whole = slow.seconds.sum() * sizes.sum() / sizes[confirmed].sum()
    sign = fast.sign
    return Screened(
        ranking=[
            Ranked(pair.samples.number(int(at)), sign * float(found.scores[at]), sign * float(quick[at]))
            for at in found.best
        ],
        inputs=promise.inputs,
        keep=promise.keep,
        confidence=promise.confidence,
        calibrated=len(drawn),
        confirmed=int(confirmed.sum()),
        expected_share=found.expected_share,
        ratio=float((fast.seconds.sum() + slow.seconds.sum()) / whole),
        fast_ratio=float(fast.seconds.sum() / whole),
        notes=notes,
        fast=sign * quick,
        scores=sign * found.scores,
    )
