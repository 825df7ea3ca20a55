"""Evidence for reports, made up but of the shape and size that real runs have."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from onnx_memo.levels.base import SiteFigures, StrictnessPoint
from onnx_memo.levels.ways import Alternative
from onnx_memo.proof.measure import Kept
from onnx_memo.proof.thresholds import CurvePoint
from onnx_memo.report.evidence import (
    Evidence,
    Group,
    Machine,
    Predicted,
    Proof,
    Request,
    Signal,
    SplitSizes,
    Worst,
)
from onnx_memo.sessions import Raced
from onnx_memo.timing import ratio_of, times_of

TOPICS = ("an invoice", "my password", "the delivery", "a refund", "two accounts", "the new contract")
ASKS = ("How do I change", "Where can I find", "Please cancel", "I never received", "Who answers for")


def make_evidence(
    requests: int = 150,
    sites: int = 6,
    *,
    seed: int = 0,
    hit_rate: float = 0.94,
    lengths: tuple[int, int] = (6, 60),
) -> Evidence:
    """A bundle that pays, on text of mixed length; a few requests are outside the tolerance."""
    chance = random.Random(seed)
    made = [_request(chance, chance.random() < hit_rate, lengths) for _ in range(requests)]
    tolerance = 0.01
    for number, at in enumerate([at for at, request in enumerate(made) if request.hit]):
        if number % 70 == 13:
            error = 0.0104 + 0.006 * chance.random()
            made[at] = replace(made[at], error=error, distance=0.8, token_error=0.05)
    outside = sum(request.error > tolerance for request in made)
    rows = [_site(chance, number, hit_rate) for number in range(sites)]
    worst = max(made, key=lambda request: request.error)
    return Evidence(
        title="support-questions",
        model="model.onnx",
        data="questions.txt",
        version="0.1.0",
        machine=Machine("AMD EPYC 7763 64-Core Processor", cores=2, onnxruntime="1.23.2", library="native"),
        promise=Proof(
            metric="cosine",
            tolerance=tolerance,
            within=0.95,
            confidence=0.95,
            held_out=requests,
            outside=outside,
            p_value=_p_value(requests, outside),
        ),
        split=SplitSizes(
            store=2 * requests,
            fit=requests,
            held_out=requests,
            repeats=0.12,
            how="Shuffled with seed 0, then cut; a text that occurs twice stays in one part, "
            "except where the traffic itself repeats.",
        ),
        requests=made,
        groups=groups_of(made),
        decisions=[Kept("the nearest neighbour stays", requests - requests // 20, requests)],
        accuracy=None,
        signal=Signal(median=0.08, low=0.031, inputs=256),
        sites=rows,
        strictness=[_step(at / 10, hit_rate) for at in range(11)],
        predicted=Predicted(ratio=0.684, hit_rate=hit_rate, hit_ratio=0.661, miss_ratio=1.042, noise=0.004),
        alternatives=[
            Alternative(
                name="output at all sites, one lookup",
                level="output",
                ratio=0.684,
                hit_rate=hit_rate,
                error=0.0091,
                reason="Saves most within the tolerance.",
            ),
            Alternative(
                name="output at all sites, a lookup each",
                level="output",
                ratio=0.731,
                hit_rate=0.951,
                error=0.0087,
                reason="Reuses a little more, but five further lookups cost more than that saves.",
            ),
            Alternative(
                name="probs at all sites, one lookup",
                level="probs",
                ratio=0.912,
                hit_rate=0.972,
                error=0.0013,
                reason="The projections, most of the work at these lengths, stay.",
            ),
        ],
        chosen="output at all sites, one lookup",
        worst=Worst(worst.error, worst.place, worst.length, worst.text),
        bytes=44_100_812,
        entries=2 * requests,
        notes=["Measured with one thread and a batch of one.", "Lengths above 60 tokens did not occur."],
        threshold=None,
        proven_share=None,
    )


def make_rows_evidence(requests: int = 150, *, seed: int = 0, literal: float = 0.1) -> Evidence:
    """A bundle at the level `rows`: most requests run some rows, some none, some all."""
    chance = random.Random(seed)

    def run(_: int, request: Request) -> dict[str, Any]:
        hit = request.hit
        share = 1.0 if not hit else 0.0 if chance.random() < literal else chance.uniform(0.02, 0.6)
        took = request.original_ms * (0.08 + 0.92 * share if hit else 1.02)
        return {
            "rows": share,
            "distance": share if hit else math.inf,
            "stored": share == 0,
            "bundle_ms": took,
        }

    evidence = with_requests(make_evidence(requests, 1, seed=seed), run)
    figures = {"int8": (0.21, 0.37, 0.71), "float": (0.25, 0.45, 0.76)}
    ways = [
        Alternative(
            name=f"rows in {precision}, bound {bound}",
            level=f"rows in {precision}",
            ratio=ratio,
            hit_rate=0.94,
            error=error,
            reason="the fit part keeps the tolerance",
        )
        for precision, ratios in figures.items()
        for bound, ratio, error in zip((0.4, 0.05, 0.009), ratios, (0.031, 0.0094, 0.0011), strict=True)
    ]
    return replace(
        evidence,
        sites=[
            SiteFigures(
                name="encoder",
                level="rows",
                hit_rate=0.94,
                saving_us=5900.0,
                overhead_us=1900.0,
                reason="a request that is reused runs 27.9% of its rows",
            )
        ],
        strictness=[_step(at, 0.94) for at in (0.0, 0.125, 0.25, 0.5, 0.71, 0.85, 1.0)],
        alternatives=[*evidence.alternatives, *ways],
        chosen="rows in int8, bound 0.05",
        proven_share=0.5,
    )


def groups_of(requests: Sequence[Request], spread: float = 0.004) -> list[Group]:
    """What hits, misses and all of them take; the bundle in rounds of which two are `spread` off."""
    timed = [r for r in requests if math.isfinite(r.original_ms) and math.isfinite(r.bundle_ms)]
    parts = {
        "hits": [r for r in timed if r.hit],
        "misses": [r for r in timed if not r.hit],
        "all": timed,
    }
    groups = []
    for name, some in parts.items():
        turns = [[[r.original_ms, r.bundle_ms * (1 + off)] for r in some] for off in (-spread, 0, spread)]
        raced = Raced(np.array(turns) * 1e-3)
        if some:
            groups.append(Group(name, len(some), times_of(raced, 0), times_of(raced, 1), ratio_of(raced, 1)))
    return groups


def with_requests(evidence: Evidence, change: Callable[[int, Request], dict[str, Any]]) -> Evidence:
    """The same with every request changed; `change` gives what is new of a request, by its number."""
    changed = [replace(request, **change(at, request)) for at, request in enumerate(evidence.requests)]
    return replace(evidence, requests=changed, groups=groups_of(changed))


def with_first(items: Any, **new: Any) -> list[Any]:
    """The same sites or alternatives with another first one."""
    return [replace(items[0], **new), *items[1:]]


def _p_value(held_out: int, outside: int, share: float = 0.05) -> float:
    """P(Binomial(held_out, share) <= outside), exactly."""
    part = Fraction(str(share))
    tail = sum(math.comb(held_out, k) * part**k * (1 - part) ** (held_out - k) for k in range(outside + 1))
    return float(tail)


def _request(chance: random.Random, hit: bool, lengths: tuple[int, int]) -> Request:
    length = min(max(round(chance.lognormvariate(math.log(18), 0.5)), lengths[0]), lengths[1])
    original = (2.1 + 0.23 * length) * chance.lognormvariate(0, 0.05)
    distance = abs(chance.gauss(0.35, 0.2)) if hit else 0.9 + chance.expovariate(2)
    repeat = hit and chance.random() < 0.12
    error = chance.lognormvariate(math.log(0.0035 * max(distance, 0.05)), 0.9) if hit else 0.0
    return Request(
        place=f"line {chance.randrange(1, 10000)}",
        length=length,
        original_ms=original,
        bundle_ms=original * (0.66 if hit else 1.04) * chance.lognormvariate(0, 0.04),
        hit=hit,
        stored=repeat,
        distance=0.0 if repeat else min(distance, 0.88) if hit else distance,
        error=6e-8 if repeat else error,
        token_error=error * 2.5,
        rows=None,
        text=f"{chance.choice(ASKS)} {chance.choice(TOPICS)} from order {chance.randrange(10000)}?",
    )


def _site(chance: random.Random, number: int, hit_rate: float) -> SiteFigures:
    pays = number not in (1, 4)
    rate = min(hit_rate * chance.uniform(0.97, 1.03), 1.0) if pays else hit_rate * 0.4
    saving = chance.uniform(380, 520) if pays else 61.0
    return SiteFigures(
        name=f"attention.{number}",
        level="output" if pays else None,
        hit_rate=rate,
        saving_us=saving,
        overhead_us=71.0 if number == 0 else 9.0 if pays else 58.0,
        reason="Saves clearly more than it costs; output saves more than probs."
        if pays
        else "The saving is within the noise of the measurement: 61 µs against 58 µs.",
    )


def _step(strictness: float, hit_rate: float) -> StrictnessPoint:
    error = 0.0004 * strictness**1.5
    seen = CurvePoint(
        hit_rate=hit_rate * strictness**0.6,
        mean=error,
        p95=error * 5,
        worst=error * 33,
        outside=0.02 * strictness**2,
    )
    return StrictnessPoint(strictness, seen)
