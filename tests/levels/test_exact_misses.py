"""`--exact-misses`: what reuses nothing runs the original, however large the tolerance is."""

from __future__ import annotations

import sys

import pytest
from support import assert_identical, fixture, join, original, raced, random_samples, variants, write_samples
from support_precision import exact_products
from support_rows import Built, open_pair, opened

import onnx_memo
from onnx_memo.advice import run
from onnx_memo.levels.base import Wanted
from onnx_memo.levels.registry import allowed
from onnx_memo.levels.rows.trial import RowsTrial
from onnx_memo.levels.ways import NothingPays

SAID = "requests that reuse nothing run the original, bit for bit (--exact-misses)"

in_bytes = pytest.mark.skipif(
    not exact_products("native" if onnx_memo.library_path() else "stock"),
    reason="products of bytes are not exact on this processor, and the native library is not built",
)


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Bundles of one sample, whose tolerance has room for 8 bits, each made once: `make(exact_misses)`."""
    done = {}

    def made(exact_misses: bool) -> onnx_memo.Result:
        if exact_misses not in done:
            folder = tmp_path_factory.mktemp("made")
            data = write_samples(folder / "data.npz", variants(240, seed=1))
            options = {"tolerance": 0.1, "metric": "relative", "exact_misses": exact_misses}
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(RowsTrial, "race", lambda self, samples, original, strictness: raced(0.1))
                patch.setattr(sys.modules["onnx_memo.pipeline"], "PAYS", 1e9)
                done[exact_misses] = onnx_memo.optimize(fixture("bert"), data, folder / "bundle", **options)
        return done[exact_misses]

    return made


def misses(result: onnx_memo.Result, mode: str) -> list[tuple]:
    """Answers to random requests that reuse nothing, and the original's."""
    pair = open_pair(Built(result.path, fixture("bert"), []), mode)
    alone = random_samples(pair.before, [*range(1, 41), *[16] * 20], seed=7)
    requests = [*alone, *variants(20, seed=8, changes=16), join(alone[4:9]), join(alone[9:11], padded=24)]
    answers = [(pair.ask(request), request) for request in requests]
    missed = [(one.outputs, pair.before.run(None, request)) for one, request in answers if not one.hit]
    assert len(missed) >= 40
    return missed


def test_a_miss_is_the_original_to_the_last_bit(make, mode):
    for have, want in misses(make(True), mode):
        assert_identical(have, want)


@pytest.mark.skipif(onnx_memo.library_path() is None, reason="at rows, misses run in 8 bits with the library")
def test_without_it_the_same_tolerance_has_misses_run_in_8_bits(make):
    assert all(have[0].tobytes() != want[0].tobytes() for have, want in misses(make(False), "native"))
    assert SAID not in make(False).manifest.notes


@pytest.mark.skipif(onnx_memo.library_path() is None, reason="at rows, misses run in 8 bits with the library")
@pytest.mark.parametrize(
    ("exact_misses", "said"), [(True, "the original runs"), (False, "all of it runs, in 8 bits")]
)
def test_explain_says_what_ran(make, exact_misses, said):
    """Also where the rows that run, but no misses, are in 8 bits."""
    (unlike,) = random_samples(original(fixture("bert")), [10], seed=7)
    assert onnx_memo.explain(make(exact_misses).path, arrays=unlike).reason.endswith(said)


def test_what_is_reused_is_reused_all_the_same(make):
    assert {site.level for site in make(True).manifest.sites} == {"rows"}
    assert make(True).manifest.predicted["hit_rate"] > 0.5


def test_it_is_said_once_in_summary_and_json(make, cli):
    assert make(True).to_dict()["notes"].count(SAID) == 1
    shown = " ".join(cli("inspect", make(True).path).out.split())
    assert shown.count(SAID) == 1
    assert "8 bits" not in shown


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_the_level_int8_is_not_tried(name):
    levels = [level.title for level, _ in allowed(opened(fixture(name)), Wanted(exact_misses=True), [])]
    assert levels == [
        level.title for level, _ in allowed(opened(fixture(name)), Wanted(), [], rounding=False)
    ]
    assert "int8" not in levels


@in_bytes
@pytest.mark.parametrize("exact_misses", [True, False])
def test_int8_is_among_what_was_tried_only_without_it(tmp_path, exact_misses):
    """Unrelated inputs: nothing pays but 8 bits, and here, without timings, not even these."""
    samples = random_samples(original(fixture("bert")), [16] * 240, seed=1)
    data = write_samples(tmp_path / "data.npz", samples)
    options = {"tolerance": 1e-9, "exact_misses": exact_misses}
    with pytest.raises(NothingPays) as nothing:
        onnx_memo.optimize(fixture("bert"), data, tmp_path / "bundle", **options)
    assert ("int8" in {way.level for way in nothing.value.alternatives}) is not exact_misses


def test_the_level_int8_is_refused_in_one_line(tmp_path, cli):
    data = write_samples(tmp_path / "data.npz", variants(5, seed=1))
    line = ["optimize", fixture("bert"), "--data", data, "-o", tmp_path / "b", "--tolerance", 0.1]
    refused = cli(*line, "--level", "int8", "--exact-misses")
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert (
        "--exact-misses does not go with --level int8, at which no request runs the original" in refused.err
    )
    assert [path.name for path in tmp_path.iterdir()] == ["data.npz"]


@pytest.mark.parametrize("level", ["auto", "rows", "output"])
def test_without_a_tolerance_it_holds_anyway(tmp_path, level):
    data = write_samples(tmp_path / "data.npz", variants(5, seed=1))
    made = onnx_memo.optimize(fixture("bert"), data, tmp_path / "b", level=level, exact_misses=True)
    assert SAID in made.manifest.notes


@pytest.mark.parametrize("exact_misses", [True, False])
def test_advice_holds_to_it_and_passes_it_on(tmp_path, monkeypatch, exact_misses):
    """What `advise` looks at, and the command that it proposes."""
    rounding = []

    def watched(goal, found, *rest, ladder=run.ladder):
        rounding.extend(each.at(each.grid[0]).rounds for each in found)
        return ladder(goal, found, *rest)

    monkeypatch.setattr(run, "ladder", watched)
    monkeypatch.setattr(run, "chosen_of", lambda rungs, reason: (rungs[-1], "it is the last"))
    data = write_samples(tmp_path / "data.npz", variants(240, seed=1))
    advice = onnx_memo.advise(fixture("bert"), data, exact_misses=exact_misses)
    assert (" --exact-misses " in advice.command) is exact_misses
    if onnx_memo.library_path() is not None:
        assert any(rounding) is not exact_misses
