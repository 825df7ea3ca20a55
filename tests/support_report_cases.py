"""Evidence at the edges, and what the tests of the report read in a page."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
from support_report import make_evidence, make_rows_evidence, with_first, with_requests

from onnx_memo.proof.accuracy import accuracy_of
from onnx_memo.proof.measure import Kept
from onnx_memo.report import write_report
from onnx_memo.report.evidence import Evidence, Machine, Worst

SVG = "http://www.w3.org/2000/svg"
EVIL = "<script>alert(1)</script>\"'&\x00\x1b]]>\ud800"


def all_misses() -> Evidence:
    nothing = {"distance": math.inf, "error": 0.0, "token_error": 0.0}
    evidence = with_requests(make_evidence(40, 3, hit_rate=0), lambda number, request: nothing)
    idle = {"level": None, "hit_rate": 0.0, "saving_us": 0.0, "overhead_us": 0.0}
    sites = [replace(site, **idle) for site in evidence.sites]
    return replace(evidence, sites=sites, worst=Worst(0.0, "line 1", 5, None))


def no_requests() -> Evidence:
    evidence = make_evidence(1, 1)
    return replace(
        evidence,
        **dict.fromkeys(("requests", "groups", "sites", "strictness", "alternatives", "notes"), ()),
        decisions=(),
        signal=None,
        promise=replace(evidence.promise, held_out=0, outside=0, p_value=1.0),
        split=replace(evidence.split, store=0, fit=0, held_out=0, repeats=math.nan),
        bytes=0,
        entries=0,
    )


def wild_numbers() -> Evidence:
    wild = (0.0, math.inf, math.nan, -1e-9, 1e-300, 1e9)
    names = ("error", "distance", "original_ms", "bundle_ms", "token_error")
    evidence = with_requests(
        make_evidence(60, 3), lambda number, request: {names[number // 6 % 5]: wild[number % len(wild)]}
    )
    steps = list(evidence.strictness)
    steps[3] = replace(steps[3], seen=replace(steps[3].seen, worst=math.inf, p95=0.0))
    return replace(
        evidence,
        sites=with_first(evidence.sites, saving_us=math.inf, overhead_us=math.nan, hit_rate=math.nan),
        strictness=steps,
        predicted=replace(evidence.predicted, ratio=math.inf, miss_ratio=math.nan),
        worst=replace(evidence.worst, error=math.inf),
    )


def zero_tolerance() -> Evidence:
    evidence = make_evidence(60, 2)
    evidence = replace(evidence, promise=replace(evidence.promise, metric="argmax", tolerance=0.0))
    return with_requests(evidence, lambda number, request: {"error": 0.25 * (number % 9 == 0)})


def hostile_text() -> Evidence:
    long = EVIL * 20_000
    evidence = with_requests(make_evidence(150, 3), lambda number, request: {"text": long, "error": 1.0})
    return replace(
        evidence,
        **dict.fromkeys(("title", "model", "data", "version"), long),
        machine=Machine(long, cores=2, onnxruntime=long, library=long),
        promise=replace(evidence.promise, metric=long),
        split=replace(evidence.split, how=long),
        sites=with_first(evidence.sites, name=long, level=long, reason=long),
        alternatives=with_first(evidence.alternatives, name=long, level=long, reason=long),
        chosen=long,
        worst=replace(evidence.worst, text=long),
        notes=[long, f"warning: {long}"],
        decisions=[Kept(long, 1, 2)],
        accuracy=accuracy_of(long, [1], [1], [0]),
    )


def true_labels() -> Evidence:
    rng = np.random.default_rng(0)
    truth, before, after = rng.integers(0, 2, (3, 150))
    return replace(make_evidence(), accuracy=accuracy_of("topic", truth, before, after))


def fixed_length() -> Evidence:
    return replace(make_evidence(200, 12, lengths=(128, 128)), threshold=0.88)


def wild_rows() -> Evidence:
    evidence = make_rows_evidence(60)
    shares = (math.nan, math.inf, -1.0, 2.0, None)
    evidence = with_requests(
        evidence, lambda number, request: {"rows": shares[number]} if number < len(shares) else {}
    )
    ways = [*evidence.alternatives]
    for number, error in enumerate((math.nan, math.inf, 0.0, -math.inf)):
        ways[number] = replace(ways[number], error=error)
    ways[4] = replace(ways[4], ratio=math.inf)
    ways[5] = replace(ways[5], level=EVIL)
    return replace(evidence, alternatives=ways, strictness=evidence.strictness[::6])


CASES = {
    "usual": make_evidence,
    "rows": make_rows_evidence,
    "rows, all of them stored": lambda: make_rows_evidence(80, literal=1.0),
    "rows, wild numbers": wild_rows,
    "one request, one site": lambda: make_evidence(1, 1, hit_rate=1),
    "all misses, nothing found": all_misses,
    "all hits": lambda: make_evidence(80, 2, hit_rate=1),
    "fixed length": fixed_length,
    "nothing at all": no_requests,
    "zeros, infinities, NaN": wild_numbers,
    "tolerance zero": zero_tolerance,
    "hostile text": hostile_text,
    "true labels": true_labels,
    "10,000 requests, 48 sites": lambda: make_evidence(10_000, 48),
}


def written(path: Path, evidence: Evidence) -> str:
    write_report(path / "report.html", evidence)
    return (path / "report.html").read_text(encoding="utf-8")


def visible(report: str) -> str:
    """The words of the page, without its markup and style."""
    text = re.sub(r"<style>.*?</style>", "", report, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", text)))


def drawings(report: str) -> dict[str, ElementTree.Element]:
    found = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", report, flags=re.DOTALL)]
    return {svg.get("id", ""): svg for svg in found}
