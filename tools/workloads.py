"""The six workloads of the benchmarks: lines of text for `optimize --data`, and unseen requests.

Run as `python -m tools.workloads` to see them. All seeds are fixed. Sample and requests are drawn from
one law; a request that is in the sample occurs only where the traffic itself repeats.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from models import chatterbot, news
from models.bring import CACHE
from models.fetch import RecipeError

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
# Heavy chains of two public antibodies.
TRASTUZUMAB = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
    "SRWGGDGFYAMDYWGQGTLVTVSS"
)
OKT3 = (
    "QVQLQQSGAELARPGASVKMSCKASGYTFTRYTMHWVKQRPGQGLEWIGYINPSRGYTNYNQKFKDKATLTTDKSSSTAYMQLSSLTSEDSAVYYC"
    "ARYYDDHYCLDYWGQGTTLTVSS"
)
MOST_SUBSTITUTIONS = 4
SENTENCE_WORDS = range(5, 41)  # longer or shorter pieces are what the cutting left over
REPEATED = 0.5  # share of requests that are in the sample, where the traffic repeats

Rng = np.random.Generator


@dataclass(frozen=True)
class Workload:
    """One law of requests."""

    name: str
    title: str
    model: Literal["antiberty", "minilm"]
    sample: list[str]  # what a user would give to `optimize --data`
    requests: list[str]  # what is measured
    note: str  # how both were drawn

    @property
    def repeated(self) -> float:
        """The share of the requests that are in the sample."""
        seen = set(map(normal, self.sample))
        return sum(normal(line) in seen for line in self.requests) / len(self.requests)


def normal(line: str) -> str:
    """The same for two lines that are the same to a tokenizer without case, accents and spaces."""
    letters = unicodedata.normalize("NFD", line)
    return "".join(c for c in letters if not (c.isspace() or unicodedata.combining(c))).casefold()


# ---- (a), (b): variants of antibodies


def single_variants(parent: str) -> list[str]:
    """All sequences that differ from `parent` in exactly one residue."""
    return [
        parent[:at] + other + parent[at + 1 :]
        for at, residue in enumerate(parent)
        for other in AMINO_ACIDS
        if other != residue
    ]


def substituted(parent: str, count: int, rng: Rng) -> str:
    """`parent` with other residues at `count` places."""
    residues = list(parent)
    for at in rng.choice(len(parent), count, replace=False):
        residues[at] = rng.choice([other for other in AMINO_ACIDS if other != residues[at]])
    return "".join(residues)


def antibody() -> Workload:
    """(a): single-point variants of one antibody."""
    variants = _shuffled(single_variants(TRASTUZUMAB), np.random.default_rng(1))
    note = f"600 and 500 of the {len(variants):,} single substitutions of trastuzumab's heavy chain"
    return Workload("a", "one antibody, single substitutions", "antiberty", *_split(variants, 600, 500), note)


def antibodies() -> Workload:
    """(b): 1 to 4 substitutions of two antibodies."""
    rng = np.random.default_rng(2)

    def draw() -> str:
        parent = (TRASTUZUMAB, OKT3)[rng.integers(2)]
        return substituted(parent, int(rng.integers(1, MOST_SUBSTITUTIONS + 1)), rng)

    lines = _distinct(draw, 900)
    note = "the heavy chains of trastuzumab and OKT3, chosen evenly, with 1 to 4 substitutions, chosen evenly"
    return Workload("b", "two antibodies, 1 to 4 substitutions", "antiberty", *_split(lines, 600, 300), note)


# ---- (c), (d): text


def texts() -> list[str]:
    """Distinct utterances and sentences of the news, in their sources' order.

    Raises:
        RecipeError: the sources are not there and cannot be brought.
    """
    spoken = chatterbot.bring(CACHE).read_text(encoding="utf-8").splitlines()
    articles = news.bring(CACHE).read_text(encoding="utf-8").splitlines()
    written = [sentence for article in articles for sentence in sentences(article)]
    short = [line for line in spoken if len(line.split()) < SENTENCE_WORDS.stop]
    return list({normal(line): line for line in short + written}.values())


def sentences(article: str) -> list[str]:
    """The sentences of an article that are of ordinary length."""
    pieces = re.split(r'(?<=[.!?])"?\s+(?="?[A-Z])', article.strip())
    return [piece for piece in pieces if len(piece.split()) in SENTENCE_WORDS]


def diverse() -> Workload:
    """(c): text in which nothing repeats."""
    lines = _shuffled(texts(), np.random.default_rng(3))
    note = f"drawn without repeats from {len(lines):,} utterances and news sentences"
    return Workload("c", "diverse conversation and news", "minilm", *_split(lines, 600, 300), note)


def repeating() -> Workload:
    """(d): the same text, drawn with repeats by Zipf's law."""
    rng = np.random.default_rng(4)
    lines = _shuffled(texts(), rng)
    draws, requests = 1200, 1000  # so many that chance moves the share of repeats by less than .02
    exponent = zipf_exponent(len(lines), draws)
    drawn = [lines[at] for at in rng.choice(len(lines), draws + requests, p=zipf(len(lines), exponent))]
    note = (
        f"drawn from {len(lines):,} lines by Zipf's law with exponent {exponent:.3f}, found by bisection so "
        f"that {REPEATED:.0%} of the requests are expected to be in the sample"
    )
    return Workload(
        "d", "the same text, repeats by Zipf's law", "minilm", *_split(drawn, draws, requests), note
    )


def zipf(universe: int, exponent: float) -> npt.NDArray[np.float64]:
    """The probability of each rank: f64[universe]."""
    weights = np.arange(1, universe + 1, dtype=np.float64) ** -exponent
    chances: npt.NDArray[np.float64] = weights / weights.sum()
    return chances


def zipf_exponent(universe: int, draws: int, repeated: float = REPEATED) -> float:
    """The exponent, to three digits, at which a request is among `draws` others with that probability."""
    low, high = 0.0, 3.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        chances = zipf(universe, middle)
        share = float(chances @ (1 - (1 - chances) ** draws))
        low, high = (middle, high) if share < repeated else (low, middle)
    return round(low, 3)


# ---- (e): templates with changing fields

VOCABULARY = """
name James Mary Robert Linda Michael Susan David Karen Thomas Nancy Daniel Laura Peter Anna Paul Emma Mark
surname Smith Johnson Brown Miller Davis Wilson Moore Taylor White Harris Clark Lewis Young Walker Hall Allen
city London Paris Berlin Madrid Rome Vienna Prague Dublin Moscow Tokyo Delhi Boston Chicago Sydney Cairo
month January February March April May June July August September October November December
weekday Monday Tuesday Wednesday Thursday Friday Saturday
product chairs tables lamps books phones shirts boxes bottles doors windows
status 200 201 204 301 404 500 503
"""
WORDS = {kind: words for kind, *words in map(str.split, VOCABULARY.strip().splitlines())}
NUMBERS = {"day": (10, 29), "hour": (10, 24), "sixty": (10, 60), "two": (10, 100), "three": (100, 1000)}
NUMBERS |= {"twelfth": (10, 13), "octet": (10, 200), "nights": (2, 10), "year": (1940, 2006)}
TEMPLATES = (
    "2024-{twelfth}-{day} {hour}:{sixty}:{sixty} auth: user {name} was logged in from 10.0.{octet}.{octet}",
    "{hour}:{sixty}:{sixty} WARN disk: volume {two} of server {three} is {two} percent full",
    "{hour}:{sixty}:{sixty} ERROR payment: order {three} of {name} {surname} was rejected with code {three}",
    "GET /items/{three} was answered with status {status} in {three} ms by worker {two}",
    "job {three} of {name} was started on node {two} and has used {three} MB of memory",
    "sensor {two} in room {three} is reading {two} degrees at {hour}:{sixty}",
    "Dear {name} {surname}, your order {three} of {two} {product} was sent to {city} on {month} {day}.",
    "Patient {surname}, {name}, was born in {city} in {year} and is seen by Doctor {surname}.",
    "The flight from {city} to {city} on {month} {day} is leaving from gate {two} at {hour}:{sixty}.",
    "{name} {surname} has booked room {three} in {city} for {nights} nights from {month} {day}.",
    "Invoice {three}: {two} {product} at {two} dollars each was paid by {name} {surname} on {month} {day}.",
    "The meeting with {name} about the {product} was moved to {weekday} at {hour}:{sixty} in room {three}.",
)


def filled(template: str, rng: Rng) -> str:
    """The template with a value drawn for each field."""

    def value(field: re.Match[str]) -> str:
        kind = field[1]
        return str(rng.choice(WORDS[kind]) if kind in WORDS else rng.integers(*NUMBERS[kind]))

    return re.sub(r"\{(\w+)\}", value, template)


def templated() -> Workload:
    """(e): log and form lines."""
    rng = np.random.default_rng(5)
    lines = _distinct(lambda: filled(str(rng.choice(TEMPLATES)), rng), 1100)
    note = f"{len(TEMPLATES)} templates, chosen evenly; numbers, names, dates and places change"
    return Workload("e", "templated log and form lines", "minilm", *_split(lines, 800, 300), note)


# ---- (f): near-duplicates with another meaning

Pair = tuple[str, str]


def negated(line: str, rng: Rng) -> Pair | None:
    """The line with `now` and with `not` behind one of its auxiliary verbs: of one length."""
    verb = _one(re.finditer(r"\b(?:is|are|was|were|has|have|will|can|could|would)\b(?! not)", line), rng)
    if verb is None:
        return None
    before, after = line[: verb.end()], line[verb.end() :]
    return f"{before} now{after}", f"{before} not{after}"


def renumbered(line: str, rng: Rng) -> Pair | None:
    """The line, and the line with one number changed to another of as many digits."""
    number = _one(re.finditer(r"(?<!\d)[1-9]\d{0,3}(?!\d)", line), rng)
    if number is None:
        return None
    least = 10 ** (len(number[0]) - 1)
    other = str(rng.integers(least, 10 * least))
    return line, line[: number.start()] + other + line[number.end() :]


def swapped(line: str, rng: Rng) -> Pair | None:
    """The line, and the line with two of its longer words swapped."""
    words = list(re.finditer(r"\b[A-Za-z]{4,}\b", line))
    if len(words) < 2:
        return None
    first, second = (words[at] for at in sorted(rng.choice(len(words), 2, replace=False)))
    between = line[first.end() : second.start()]
    return line, f"{line[: first.start()]}{second[0]}{between}{first[0]}{line[second.end() :]}"


def renamed(line: str, rng: Rng) -> Pair | None:
    """The line, and the line with one name exchanged for another of its kind, or for any."""
    name = _one(re.finditer(r"(?<=[a-z,] )[A-Z][a-z]{2,}\b", line), rng)
    if name is None:
        return None
    kind = next((kind for kind in WORDS.values() if name[0] in kind), WORDS["surname"] + WORDS["city"])
    return line, line[: name.start()] + str(rng.choice(kind)) + line[name.end() :]


EDITS = (negated, renumbered, swapped, renamed)


def adversarial() -> Workload:
    """(f): pairs of lines that look alike and say different things."""
    rng = np.random.default_rng(6)
    ordinary = [line for line in texts() if len(line.split()) in SENTENCE_WORDS]
    seen: set[str] = set()
    pairs: list[str] = []
    while len(pairs) < 1100:
        turn = len(pairs) // 2
        template = turn // len(EDITS) % 2 == 0
        line = filled(str(rng.choice(TEMPLATES)), rng) if template else str(rng.choice(ordinary))
        pair = EDITS[turn % len(EDITS)](line, rng)
        if pair is None or len({*map(normal, pair)} - seen) < 2:
            continue
        seen.update(map(normal, pair))
        pairs += pair
    note = (
        "550 pairs that differ by a negation, a number, two words swapped or a name, half of them templated "
        "and half ordinary sentences; both halves of all pairs shuffled, then cut into sample and requests"
    )
    lines = _split(_shuffled(pairs, rng), 800, 300)
    return Workload("f", "adversarial near-duplicates", "minilm", *lines, note)


# ----

WORKLOADS: dict[str, Callable[[], Workload]] = {
    "a": antibody,
    "b": antibodies,
    "c": diverse,
    "d": repeating,
    "e": templated,
    "f": adversarial,
}


def _shuffled(lines: list[str], rng: Rng) -> list[str]:
    return [lines[at] for at in rng.permutation(len(lines))]


def _split(lines: list[str], sample: int, requests: int) -> tuple[list[str], list[str]]:
    return lines[:sample], lines[sample : sample + requests]


def _distinct(draw: Callable[[], str], count: int) -> list[str]:
    found: dict[str, str] = {}
    while len(found) < count:
        line = draw()
        found.setdefault(normal(line), line)
    return list(found.values())


def _one(found: Iterator[re.Match[str]], rng: Rng) -> re.Match[str] | None:
    matches = list(found)
    return matches[rng.integers(len(matches))] if matches else None


def main() -> int:
    """Print the workloads; returns the exit code."""
    table = Table(title="Workloads", title_justify="left", box=None)
    for column in ("", "model", "sample", "distinct", "requests", "in the sample"):
        table.add_column(column)
    try:
        made = [make() for make in WORKLOADS.values()]
    except RecipeError as error:
        print(f"workloads: {error}", file=sys.stderr)
        return 1
    for w in made:
        counts = (len(w.sample), len(set(map(normal, w.sample))), len(w.requests))
        table.add_row(w.name, w.model, *(f"{count:,}" for count in counts), f"{w.repeated:.1%}")
    Console().print(table)
    for w in made:
        print(f"\n({w.name}) {w.title}: {w.note}", *w.requests[:4], sep="\n    ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
