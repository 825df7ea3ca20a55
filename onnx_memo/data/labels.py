"""True labels of the requests: a column of the data file, read as numbers of the model's classes.

They stand beside the samples and never among what the model takes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from onnx_memo.data.distinct import content
from onnx_memo.data.samples import Labels, Samples
from onnx_memo.errors import MemoError, reason_of
from onnx_memo.proof.accuracy import Accuracy, accuracy_of
from onnx_memo.proof.answer import Answer
from onnx_memo.proof.choice import Wish, decision_of
from onnx_memo.proof.decisions import Label
from onnx_memo.proof.measure import Measure, Seen
from onnx_memo.words import counted

CONFIG = "config.json"  # of Hugging Face models, beside them
MOST_NAMES, MOST_LETTERS = 5, 40  # of classes that are named; of what is quoted
MOST_DIGITS = 18  # of a number in text that is taken for a class


@dataclass(frozen=True)
class LabelColumn:
    """Where true labels stand in the data, and what they mean.

    Attributes:
        name: of the field, or the array.
        classes: the number of each class, by its name; empty where the model names none.
    """

    name: str
    classes: Mapping[str, int]

    def beside(self, samples: Samples, where: str, values: Mapping[int, object]) -> Samples:
        """The samples with their labels.

        A name of `classes` is that class; else a whole number, also one in text, is the class itself.

        Args:
            samples: without labels.
            where: how messages name the data.
            values: what stands in the column, by the number of the line or row; None, NaN or empty: nothing.

        Raises:
            MemoError: a sample has no label, or one that is no class.
        """
        found = []
        for at in range(len(samples)):
            value, place = values[samples.number(at)], f"{where} {samples.place(at)}"
            if value in (None, "") or (isinstance(value, float) and math.isnan(value)):
                raise MemoError(f"{place} has no label in '{self.name}': label it, or leave it out")
            known = self._class_of(value)
            if known is None:
                raise MemoError(f"{place} holds {_quoted(value)} in '{self.name}', {self._what_is_known()}")
            found.append(known)
        return replace(samples, labels=Labels(self.name, found))

    def _class_of(self, value: object) -> int | None:
        if isinstance(value, str):
            number = value.isascii() and value.isdecimal() and len(value) <= MOST_DIGITS
            return self.classes.get(value, int(value) if number else None)
        if isinstance(value, float) and value.is_integer():  # numbers beside gaps become floats in pandas
            return int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def _what_is_known(self) -> str:
        if not self.classes:
            return (
                f"which is no number of a class; names are known only by 'id2label' in a {CONFIG} beside the "
                "model, and there is none: write numbers, or add it"
            )
        names = [_quoted(name) for name in self.classes]
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        return (
            f"which is no class of the model; {CONFIG} knows {', '.join(names[:MOST_NAMES])}{more}: write it "
            "as there, or as a number, or leave such inputs out"
        )


def label_column(name: str | None, model: Path) -> LabelColumn | None:
    """The column that a user names, with the names of classes that stand beside the model; None: no column.

    Args:
        name: of the column.
        model: an ONNX file, or a Hugging Face model directory.

    Raises:
        MemoError: the names cannot be read.
    """
    if name is None:
        return None
    path = (model if model.is_dir() else model.parent) / CONFIG
    if not path.is_file():
        return LabelColumn(name, {})
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        names = config.get("id2label") or {}
        classes = {str(label): int(number) for number, label in names.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise MemoError(
            f"'{path}' names no classes in 'id2label', as {{\"0\": \"name\", ...}} ({reason_of(error)}): "
            "mend it, or move it away and give labels as numbers"
        ) from error
    if len(classes) < len(names):
        raise MemoError(f"'{path}' gives several classes one name in 'id2label': mend it")
    return LabelColumn(name, classes)


def note_contradictions(samples: Samples) -> list[str]:
    """Says so where equal inputs have other labels: no model gets all of them right."""
    if samples.labels is None:
        return []
    classes, first = samples.labels.classes, dict[Hashable, int]()
    same = [(first.setdefault(content(arrays), at), at) for at, arrays in enumerate(samples.arrays)]
    others = [(one, at) for one, at in same if classes[one] != classes[at]]
    if not others:
        return []
    one, at = others[0]
    inputs = counted(len(others), "input repeats another", "inputs repeat others")
    places = f"{samples.place(one)} and {samples.place(at)}"
    return [f"{inputs} under another label, first {places}: no model gets both right"]


def check_labels(samples: Samples, decision: Measure | None) -> None:
    """Whether the decision chooses one class for a request, and has those of the labels, if there are any.

    Raises:
        MemoError: it does not.
    """
    labels = samples.labels
    if labels is None:
        return
    assert isinstance(decision, Label), "labels go with the decision label"
    if decision.classes is None:
        raise MemoError(
            f"--labels takes one label a request, and {decision.value.what} gives a class for each token: "
            "leave --labels out, or choose another with --output"
        )
    for at, label in enumerate(labels.classes):
        if not 0 <= label < decision.classes:
            raise MemoError(
                f"{samples.place(at)} of the data has the class {label} in '{labels.column}', and "
                f"{decision.value.what} has the classes 0 to {decision.classes - 1}: correct it, or leave "
                "such inputs out"
            )


def label_decision(samples: Samples, first: Answer) -> Label:
    """The decision `label` for a model that gives answers like `first` to samples with labels.

    Raises:
        MemoError: no output holds classes, or the labels do not suit it.
    """
    try:
        decision = decision_of(Wish("label"), first)
    except MemoError as error:
        raise MemoError(f"--labels tells of the best class: {error}") from error
    check_labels(samples, decision)
    assert isinstance(decision, Label)
    return decision


def accuracy_by(labels: Labels | None, decided: Seen) -> Accuracy | None:
    """How often the classes that were chosen are the true ones, if these are known.

    Args:
        labels: of the requests.
        decided: what the decision `label`, of one position, says of them (`onnx_memo.proof.decisions.Label`).
    """
    if labels is None:
        return None
    before, after = decided.numbers.T
    return accuracy_of(labels.column, labels.classes, before, after)


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}..."
