"""From records, each with a text or a pair of texts, to samples; records are what lines and tables hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from onnx_memo.data.given import Data
from onnx_memo.data.labels import LabelColumn
from onnx_memo.data.samples import ModelInput, Samples
from onnx_memo.data.tokens import Text, tokenized
from onnx_memo.errors import MemoError
from onnx_memo.words import counted

FIELD, PAIR_FIELD = "text", "text_pair"  # by default, as datasets of Hugging Face call them
MOST_FIELDS, MOST_LETTERS = 3, 30  # of other fields that are named
MOST_INPUTS = 1_000_000  # of a file; each takes some kilobytes of memory
MOST_IN_TEXT = 1 << 24  # letters of a text, or of a line
MOST_IN_ALL = 1 << 30  # letters of all texts

Record = Mapping[str, object]


@dataclass(frozen=True)
class Reading:
    """What a reader is asked for.

    Attributes:
        data: the user's file, folder or stream.
        inputs: what the model takes.
        tokenizer: a `tokenizer.json`, if there is one.
        image_processor: a `preprocessor_config.json` that came with the model, where the user names none.
        allow_unknown: take text of which more than a tenth is unknown to the tokenizer.
        labels: where the true labels stand, if they are wanted.
    """

    data: Data
    inputs: Sequence[ModelInput]
    tokenizer: Path | None = None
    image_processor: Path | None = None
    allow_unknown: bool = False
    labels: LabelColumn | None = None

    @property
    def where(self) -> str:
        """How messages name the data."""
        return self.data.where

    def samples_of(self, texts: Mapping[int, Text], unit: str = "line") -> Samples:
        """A sample of each text; its number is that of its `unit` in the data."""
        return tokenized(
            self.where,
            texts,
            self.inputs,
            self.tokenizer,
            self.allow_unknown,
            max_length=self.data.max_length,
            unit=unit,
        )


class Gathered(dict[int, Text]):
    """Texts by their numbers, which are refused (MemoError) where they are more than memory holds."""

    def __init__(self, where: str, unit: str) -> None:
        super().__init__()
        self.where, self.unit, self.letters = where, unit, 0

    def __setitem__(self, number: int, text: Text) -> None:
        letters = [len(one) for one in ((text,) if isinstance(text, str) else text)]
        check_letters(max(letters), f"{self.where} {self.unit} {number}")
        self.letters += sum(letters)
        if len(self) >= MOST_INPUTS or self.letters > MOST_IN_ALL:
            raise MemoError(
                f"{self.where} holds more than {MOST_INPUTS:,} inputs, or {MOST_IN_ALL >> 20:,} Mi letters: "
                "give some of them, drawn at random; a sample of the inputs is enough"
            )
        super().__setitem__(number, text)


def check_letters(letters: int, place: str) -> None:
    """Raises MemoError if a text is so long that it is hardly one."""
    if letters > MOST_IN_TEXT:
        raise MemoError(f"{place} is longer than {MOST_IN_TEXT:,} letters: split it, or leave it out")


def text_samples(
    reading: Reading, records: Iterable[tuple[int, Record]], unit: str = "line", field: str = "field"
) -> Samples:
    """A sample of each record: of its text, or its two, and with its label, if that is wanted.

    Args:
        reading: what is asked for.
        records: by their numbers.
        unit: what is numbered.
        field: what the parts of a record are called.

    Raises:
        MemoError: a record has no such text.
    """
    texts, values = Gathered(reading.where, unit), dict[int, object]()
    others: Counter[str] = Counter()
    columns: Sequence[str] = ()
    for number, record in records:
        columns = columns or reading.data.columns or default_columns(record)
        found = [_text(record, name, f"{reading.where} {unit} {number}", field) for name in columns]
        if PAIR_FIELD in record and not reading.data.columns and len(columns) == 1:
            raise MemoError(
                f"{reading.where} {unit} {number} has a {field} '{PAIR_FIELD}', and those before have none: "
                f"give all of them one, or name the {field}s with --column"
            )
        texts[number] = found[0] if len(found) == 1 else (found[0], found[1])
        others.update(name for name in record if name not in columns)
        if reading.labels is not None:
            values[number] = record.get(reading.labels.name)
    if reading.labels is not None and texts:
        _check_labels(reading.where, reading.labels, columns, others, unit, field)
        del others[reading.labels.name]
    samples = reading.samples_of(texts, unit)
    if reading.labels is not None:
        samples = reading.labels.beside(samples, reading.where, values)
    read = [*columns, *([] if reading.labels is None else [reading.labels.name])]
    return replace(samples, notes=[*_note_others(others, len(texts), read), *samples.notes])


def default_columns(names: Iterable[str]) -> Sequence[str]:
    """The fields that are read where none is named, of records that have fields of these names."""
    return (FIELD, PAIR_FIELD) if PAIR_FIELD in names else (FIELD,)


def check_columns(where: str, columns: Sequence[str], names: Sequence[str]) -> None:
    """Raises MemoError where a table with columns of these `names` has not each that is read, once."""
    for column in columns:
        if names.count(column) != 1:
            found = "no column" if column not in names else f"{names.count(column)} columns"
            held = ", ".join(f"'{name[:MOST_LETTERS]}'" for name in names[: 2 * MOST_FIELDS]) or "none"
            more = f" and {len(names) - 2 * MOST_FIELDS} more" if len(names) > 2 * MOST_FIELDS else ""
            raise MemoError(
                f"{where} has {found} '{column}'; there is {held}{more}: name the column of the texts with "
                "--column, or those of a pair, each with a --column of its own"
            )


def _text(record: Record, name: str, place: str, field: str) -> str:
    text = record.get(name)
    if not isinstance(text, str):
        raise MemoError(f"{place} has no {field} '{name}' that is a string")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise MemoError(f"{place} escapes half a character (a lone surrogate): fix it")
    return text


def _check_labels(
    where: str, labels: LabelColumn, columns: Sequence[str], others: Counter[str], unit: str, field: str
) -> None:
    """Raises MemoError if the field of true labels is none of the `others`, beside the text."""
    if labels.name in columns:
        raise MemoError(
            f"--labels '{labels.name}' names the text itself: name the {field} that holds true labels"
        )
    if labels.name not in others:
        named = ", ".join(f"'{name[:MOST_LETTERS]}'" for name, _ in others.most_common(MOST_FIELDS))
        beside = " and ".join(f"'{column}'" for column in columns)
        raise MemoError(
            f"no {unit} of {where} has the {field} '{labels.name}' that --labels names; beside {beside} "
            f"there is {named or 'nothing'}"
        )


def _note_others(others: Counter[str], records: int, read: Sequence[str]) -> list[str]:
    """What else the records hold: half of a pair, perhaps."""
    if not others:
        return []
    named = [f"{name[:MOST_LETTERS]!r} in {count}" for name, count in others.most_common(MOST_FIELDS)]
    more = f" and {len(others) - MOST_FIELDS} more" if len(others) > MOST_FIELDS else ""
    taken = " and ".join(f"'{name}'" for name in read) + (" is" if len(read) == 1 else " are")
    return [f"only {taken} read; of {counted(records, 'record')} there is also {', '.join(named)}{more}"]
