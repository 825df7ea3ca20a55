"""English conversational utterances: the ChatterBot corpus (BSD)."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from models.fetch import RecipeError, Wheel, check, download, holds, place, workspace

WHEEL = Wheel("chatterbot-corpus", "1.3.3", 1)
WHEEL_SHA256 = "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154"
FOLDER = "chatterbot_corpus/data/english/"
HASHES = {"chatterbot.txt": "c312d9c16c85cb1cd549dee3da76229ba7be3e72a253468c6ef8c6589e9d467f"}


def utterances(wheel: Path) -> Iterator[str]:
    """Yield every utterance of every conversation, files by name, line breaks made spaces."""
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
                        yield " ".join(line.strip().splitlines())


def bring(to: Path) -> Path:
    """Make `to`/chatterbot.txt, one distinct utterance a line, in order; return its path."""
    if not holds(to, HASHES):
        with workspace(to / "chatterbot.txt") as work:
            wheel = download(WHEEL, work)
            check(wheel, WHEEL_SHA256, WHEEL.requirement)
            text = work / "chatterbot.txt"
            lines = dict.fromkeys(utterances(wheel))
            text.write_bytes("".join(f"{line}\n" for line in lines).encode())
            check(text, HASHES["chatterbot.txt"], text.name)
            place([text], to)
    return to / "chatterbot.txt"
