"""The benchmarks' workloads: always the same, of the promised sizes, unseen unless traffic repeats."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from support import fixture

import onnx_memo
from models.bring import CACHE
from onnx_memo.data.samples import Samples
from onnx_memo.errors import MemoError
from tools import (
    bench_levels,
    bench_tables,
    bench_workloads,
    compare_keys,
    measure,
    moving_object,
    pages,
    shared_prefix,
    store_sizes,
    workloads,
)
from tools.bench_rows import Bench
from tools.measure import Workshop, requests_of, runner, write_lines
from tools.workloads import OKT3, TRASTUZUMAB, WORKLOADS, Workload

SIZES = {
    "a": (600, 500),
    "b": (600, 300),
    "c": (600, 300),
    "d": (1200, 1000),
    "e": (800, 300),
    "f": (800, 300),
}
cached = all((CACHE / name).is_file() for name in ("chatterbot.txt", "news.txt"))
texts = pytest.mark.skipif(
    not cached, reason="no texts: bring them with `python -m models.bring chatterbot` and `... news`"
)
every = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[texts] if name in "cdf" else []) for name in WORKLOADS]
)


def differences(one: str, other: str) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


@every
def test_a_workload_is_the_same_every_time(name):
    assert WORKLOADS[name]() == WORKLOADS[name]()


@every
def test_a_workload_has_its_size_and_names_its_model(name):
    work = WORKLOADS[name]()
    assert (work.name, len(work.sample), len(work.requests)) == (name, *SIZES[name])
    assert work.model == ("antiberty" if name in "ab" else "minilm")
    assert all(line.strip() == line and "\n" not in line for line in work.sample + work.requests)


@every
def test_no_line_occurs_twice_unless_the_traffic_repeats(name):
    work = WORKLOADS[name]()
    distinct = set(map(workloads.normal, work.sample + work.requests))
    if name == "d":
        assert 0.42 <= work.repeated <= 0.58
        assert "50%" in work.note
    else:
        assert work.repeated == 0
        assert len(distinct) == sum(SIZES[name])


def test_lines_that_a_tokenizer_reads_alike_are_one():
    assert workloads.normal("Café  au lait") == workloads.normal("cafe au Lait")
    assert workloads.normal("room 12") != workloads.normal("room 21")


# ---- Antibodies


def test_single_variants_differ_from_their_parent_in_one_residue():
    work = WORKLOADS["a"]()
    assert {differences(TRASTUZUMAB, line) for line in work.sample + work.requests} == {1}
    assert len(workloads.single_variants(TRASTUZUMAB)) == 19 * len(TRASTUZUMAB) == 2280


def test_variants_of_two_parents_differ_in_up_to_four_residues():
    work = WORKLOADS["b"]()
    for lines in (work.sample, work.requests):
        of = {parent: [line for line in lines if len(line) == len(parent)] for parent in (TRASTUZUMAB, OKT3)}
        for parent, variants in of.items():
            assert 0.4 < len(variants) / len(lines) < 0.6
            assert {differences(parent, line) for line in variants} == {1, 2, 3, 4}


def test_antibodies_hold_nothing_but_amino_acids():
    for name in "ab":
        work = WORKLOADS[name]()
        assert set("".join(work.sample + work.requests)) == set(workloads.AMINO_ACIDS)


# ---- Text


def test_zipfs_exponent_gives_the_share_of_repeats():
    exponent = workloads.zipf_exponent(1000, 300, repeated=0.6)
    rng = np.random.default_rng(0)
    chances = workloads.zipf(1000, exponent)
    shares = []
    for _ in range(50):
        drawn = rng.choice(1000, 600, p=chances)
        shares.append(np.isin(drawn[300:], drawn[:300]).mean())
    assert np.mean(shares) == pytest.approx(0.6, abs=0.02)


def test_templates_are_filled_to_the_last_field():
    lines = WORKLOADS["e"]().sample
    assert not any(re.search(r"[{}]", line) for line in lines)
    shapes = {re.sub(r"[A-Z]?[a-z]+|\d+", "", line) for line in lines}
    assert len(shapes) >= len(workloads.TEMPLATES) / 2


@pytest.mark.parametrize("edit", workloads.EDITS)
def test_an_edit_changes_the_meaning_and_keeps_the_words_count(edit):
    line = "The flight from London to Paris is leaving from gate 42 at noon."
    one, other = edit(line, np.random.default_rng(0))
    changed = [(a, b) for a, b in zip(one.split(), other.split(), strict=True) if a != b]
    assert len(changed) == (2 if edit is workloads.swapped else 1)
    if edit is workloads.negated:
        assert changed == [("now", "not")]


@pytest.mark.parametrize("edit", workloads.EDITS)
def test_a_line_that_an_edit_does_not_fit_gives_no_pair(edit):
    assert edit("no way", np.random.default_rng(0)) is None


@texts
def test_most_adversarial_requests_have_their_other_half_in_the_sample():
    work = WORKLOADS["f"]()
    sample = [line.split() for line in work.sample]
    near = 0
    for words in (line.split() for line in work.requests):
        near += any(
            len(words) == len(other) and sum(a != b for a, b in zip(words, other, strict=True)) <= 2
            for other in sample
        )
    assert near / len(work.requests) > 0.6


# ---- The tools that run them


@pytest.fixture
def small(tokenizer, tmp_path):
    """The fixture of a BERT as if it served a workload of a few lines; half of the requests are stored."""
    rng = np.random.default_rng(0)
    lines = list(dict.fromkeys(" ".join(rng.choice(list("abcde"), 6)) for _ in range(40)))
    work = Workload("e", "letters", "minilm", lines[:10], [*lines[:4], *lines[20:24]], "")
    model = tmp_path / "model" / "model.onnx"
    model.parent.mkdir()
    model.write_bytes(fixture("bert").read_bytes())
    return SimpleNamespace(work=work, model=model, tokenizer=tokenizer, folder=tmp_path / "kept")


def reusing(level):
    """An optimizer that stores all, for literal repeats, and expects 0.9."""

    def optimizer(model, data, out, *, tokenizer, tolerance, **options):
        made = onnx_memo.optimize(model, data, out, tokenizer=tokenizer, level=level, **options)
        return SimpleNamespace(manifest=replace(made.manifest, predicted={"ratio": 0.9}))

    return optimizer


def nothing_pays(*_, **__):
    raise MemoError("hit rate 0.1, saving\n1 ms")


def measured(small, optimizer, tolerance=0.01) -> bench_workloads.Row:
    bench = Bench(Workshop(small.folder, optimizer=optimizer), rounds=1)
    data = bench.lines("e", small.work.sample)
    made = bench.shop.bundle("e", small.model, data, tokenizer=small.tokenizer, tolerance=tolerance)
    return bench_workloads.measure(small.work, small.model, small.tokenizer, made, tolerance, bench)


@pytest.mark.parametrize(("level", "rows"), [("output", 1.0), ("rows", 0.5)])
def test_a_row_of_a_bundle(small, level, rows):
    row = measured(small, reusing(level))
    assert (row.requests, row.hit_rate, row.predicted, row.reason) == (8, 0.5, 0.9, "")
    assert (row.level, row.rows_run) == (level, rows)  # what repeats literally runs no row
    assert set(row.ratios) >= {"int8", "stock"}
    assert row.errors["ours"]["outside"] == 0 <= row.errors["ours"]["worst"] < row.errors["int8"]["worst"]
    assert row.worst in small.work.sample  # misses are exact
    assert row.kept
    assert bench_workloads.Row(**json.loads(json.dumps(vars(row)))).errors == row.errors


def test_a_row_without_a_bundle_tells_the_reason(small):
    row = measured(small, nothing_pays)
    assert list(row.ratios) == ["int8"]
    assert (row.predicted, row.hit_rate, row.rows_run, row.ours) == (1.0, 0.0, 1.0, 1.0)
    assert set(row.errors["ours"].values()) == {0.0}
    assert "no bundle: hit rate 0.1, saving 1 ms" in bench_workloads.section([row])


def test_a_broken_promise_is_told(small):
    row = measured(small, reusing("output"), tolerance=0.0)
    assert row.errors["ours"]["outside"] == 0.5
    assert "**no**" in bench_workloads.section([row])


def test_a_bundle_is_made_once_and_again_for_other_options(small):
    asked = []

    def optimizer(*arguments, **options):
        asked.append(options["tolerance"])
        return reusing("output")(*arguments, **options)

    for tolerance in (0.1, 0.1, 0.2):
        measured(small, optimizer, tolerance)
    assert asked == [0.1, 0.2]
    (small.folder / "e" / "model.onnx").unlink()
    measured(small, optimizer, 0.2)
    assert asked == [0.1, 0.2, 0.2]
    measured(small, optimizer, 0.3)
    small.work.sample.append("a a a a a a")
    measured(small, optimizer, 0.3)
    assert asked == [0.1, 0.2, 0.2, 0.3, 0.3]


def test_sections_replace_themselves_and_nothing_else(small):
    docs = small.folder.parent / "docs"
    docs.mkdir()
    page = docs / "benchmarks.md"
    page.write_text("# B\n\n<!-- workloads -->\nold\n<!-- /workloads -->\n\nkept\n")
    row = measured(small, reusing("output"))
    rows = {name: vars(replace(row, name=name)) for name in "ae"}
    results = {"workloads": {bench_workloads.Row(**found).key: found for found in rows.values()}}
    results["tables"] = {"changes": {"machine": "M", "rows": [{"changes": 4, "ratio": 0.5}]}}
    for _ in range(2):
        bench_workloads.write_docs(json.loads(json.dumps(results)), docs)
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("# B\n\n<!-- workloads -->\n")
    assert "<!-- /workloads -->\n\nkept\n" in text
    assert text.count("| 4 | 0.500 |") == 1
    assert str(small.folder.parent) not in text
    pictures = re.findall(r"\(([\w/-]+\.svg)\)", text)
    assert len(pictures) == 2
    for name in pictures:
        ElementTree.fromstring((docs / name).read_text())


def test_a_section_without_markers_is_appended(tmp_path):
    path = tmp_path / "benchmarks.md"
    pages.write_section(path, "keys", "one\n")
    pages.write_section(path, "workloads", "two\n")
    pages.write_section(path, "keys", "three\n")
    assert re.findall(r"^(?!<|#).+", path.read_text(), re.MULTILINE) == ["three", "two"]


def test_every_piece_has_its_turn_once():
    every = bench_workloads.pieces(bench_workloads.ORDER)
    assert len(set(every)) == len(every)
    assert {name for name, _ in every} == {*WORKLOADS, bench_workloads.UNLIKE, *bench_tables.TABLES}
    assert bench_workloads.pieces(["e", "a"]) == [
        *(("a", 0.01), ("a", 0.002), ("a", 0.0005)),
        *(("e", 0.03), ("e", 0.01)),
    ]


@pytest.mark.parametrize("name", bench_tables.TABLES)
def test_a_table_shows_figures_and_reasons(name):
    table = bench_tables.TABLES[name]
    figures = {key: 1 if form else "x" for _, key, form in table.columns}
    text = table.text([figures, {"reason": "not\npossible"}], "M")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {len(table.columns) + 1}
    assert len(lines) == 3
    assert text.endswith("- not possible\n")


def test_curves_by_level():
    rows = [
        {"workload": letter, "level": level, "ratio": ratio, "p95": 0.1 * ratio}
        for letter in "ae"
        for level in ("probs", "rows")
        for ratio in (0.2, 0.9)
    ]
    drawn = bench_levels.levels_picture([*rows, {"workload": "a", "level": "output", "reason": "none"}])
    assert ElementTree.fromstring(drawn) is not None
    assert drawn.count('<path class="line c') == 4 + 2  # curves, and the legend


def test_rows_in_floats_and_int8(small):
    data = write_lines(small.folder / "data.txt", small.work.sample)
    requests = requests_of(small.model, data, small.tokenizer)
    stored = Samples(requests, [7] * len(requests), "attention_mask")
    found = bench_levels.rows_runners(small.model, stored, small.folder)
    assert list(found) == ["rows", "rows, int8"]
    original = runner(small.model)
    for ours in found.values():
        assert measure.errors_of(original, ours, requests, "relative").max() < 1e-4  # literal repeats
        assert measure.errors_of(original, ours.at(0), requests[:2]).max() == 0


def test_errors_of_a_batch_are_those_of_its_sequences(small):
    lines = write_lines(small.folder / "lines.txt", ["a b c", "a b c d e"])
    requests = requests_of(small.model, lines, small.tokenizer)
    one = runner(small.model)

    def scaled(feeds):
        outputs = [output.copy() for output in one(feeds)]
        for output in outputs:
            output[..., 0] += 1
        return outputs

    merged = Samples(requests, [4, 6], "attention_mask").batch(0, 2)
    alone, together = (measure.errors_of(one, scaled, asked) for asked in (requests, [merged]))
    assert together == pytest.approx(alone, rel=1e-3)
    assert (alone > 0).all()


def test_a_store_of_any_size_finds_what_it_held(small):
    data = write_lines(small.folder / "data.txt", small.work.sample)
    onnx_memo.optimize(small.model, data, small.folder / "bundle", tokenizer=small.tokenizer)
    requests = requests_of(small.model, data, small.tokenizer)
    want = runner(small.folder / "bundle" / "model.onnx")
    for entries in (3, 50):
        have = runner(store_sizes.sized(small.folder / "bundle", entries))
        assert measure.errors_of(want, have, requests, "relative").max() < 1e-4


def test_prompts_share_the_first_part():
    stored, asked = shared_prefix.prompts()
    same = (stored == asked).mean(axis=0)
    begin = int(shared_prefix.SHARED * shared_prefix.TOKENS)
    assert (same[:begin] == 1).all()
    assert same[begin:].mean() < 0.05


def test_a_causal_model_reuses_a_prefix_exactly(monkeypatch):
    monkeypatch.setattr(shared_prefix, "VOCABULARY", 64)
    monkeypatch.setattr(shared_prefix, "TOKENS", 40)
    found = shared_prefix.shared_prefix(fixture("gpt2"))
    assert (found["hits"], found["rows"]) == (1.0, 0.25)
    assert found["relative"] < 1e-3


def test_rank_correlation_of_known_rows():
    rising = np.array([1.0, 2.0, 5.0, 9.0])
    assert compare_keys.spearman(rising, rising**3) == pytest.approx(1)
    assert compare_keys.spearman(rising, -rising) == pytest.approx(-1)
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 1 - 6 * 0.5 / 60, corrected for the tie.
    assert compare_keys.spearman(np.array([1.0, 2.0, 2.0, 3.0]), rising) == pytest.approx(0.9486833)


def test_a_perfect_key_picks_the_best_entry_and_a_blind_one_does_not(monkeypatch):
    monkeypatch.setattr(compare_keys, "STORED", 20)
    rng = np.random.default_rng(0)
    means = rng.standard_normal((30, 16)).astype(np.float32)
    error = compare_keys.distances(means, means[:20])
    site = compare_keys.Site(np.full(30, 8), means, means, error, error)
    perfect = compare_keys.Scheme("perfect", lambda _: lambda m: m)
    blind = compare_keys.Scheme("blind", lambda _: lambda m: np.sign(m[:, :1]))
    rescued = replace(blind, candidates=20)
    found = compare_keys.score(perfect, site, 8)
    assert found.correlation == pytest.approx(1)
    assert found.picked == found.best
    assert found.hits >= 0.9
    assert compare_keys.score(blind, site, 8).picked > found.best
    assert compare_keys.score(rescued, site, 8).picked == found.best


def test_frames_differ_where_the_object_was_and_is():
    one, other = moving_object.frames(2, seed=3)
    patches = np.abs(one - other).max(axis=0).reshape(14, 16, 14, 16).max(axis=(1, 3))
    assert 4 <= (patches > 10 * moving_object.NOISE).sum() <= 18, "two objects on at most 3 x 3 patches each"
    assert np.array_equal(moving_object.frames(2, seed=3)[0], one)
