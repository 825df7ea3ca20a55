"""Bundles of one model side by side: what is measured of each, who is fastest, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict

import numpy as np
import onnx_ir as ir
import pytest
from support import changed, fixture, original, random_samples, write_samples

import onnx_memo
from onnx_memo import MemoError, compare_bundles, side_by_side, tables
from onnx_memo import pair as opening
from onnx_memo.comparison import Figures
from onnx_memo.sessions import Raced, race
from onnx_memo.side_by_side import Compared, SideBySide
from onnx_memo.timing import Measured, Times


def raced_as(monkeypatch, *totals: list[float]) -> None:
    """Races take what is given: of each round the time of each runner, for every request, in milliseconds."""

    def take(runners, requests, rounds, *advance):
        race(runners, requests[:1], 1)
        return Raced(np.array([[turn] * len(requests) for turn in totals]) * 1e-3)

    monkeypatch.setattr(side_by_side, "race", take)


@pytest.fixture(scope="module")
def pair(made, tmp_path_factory):
    """The model, a bundle at `rows` and one at `output`, and requests of which half are stored."""
    rows, output = made("bert", "rows"), made("bert", "output")
    unseen = random_samples(original(rows.model), [5, 9], seed=99)
    requests = [*rows.samples[2:4], *unseen]
    data = write_samples(tmp_path_factory.mktemp("pair") / "requests.npz", requests)
    return rows.model, [rows.bundle, output.bundle], data


def test_every_bundle_is_run_on_the_same_requests(pair):
    model, bundles, data = pair
    found = compare_bundles(model, bundles, data, rounds=2, native=False)
    assert [one.path for one in found.bundles] == [str(path) for path in bundles]
    assert (found.requests, found.rounds, found.library, found.metric) == (4, 2, "stock", "cosine")
    rows, output = found.bundles
    assert (rows.hit_rate, rows.rows_run) == (0.5, 0.5)
    assert (output.hit_rate, output.rows_run) == (0.5, None)
    assert rows.errors is not None and output.errors is not None
    assert rows.errors.worst < 1e-9
    assert 0 < output.errors.mean <= output.errors.p95 <= output.errors.worst < 1e-4
    for one in found.bundles:
        assert [str(kept) for kept in one.kept] == [
            "the nearest neighbour stays: 100.0% (4 of 4)",
            "of the ten nearest stay: 100.0% (40 of 40)",
        ]
    for one, path in zip(found.bundles, bundles, strict=True):
        assert one.memo_bytes == next(path.glob("memo-*.data")).stat().st_size
        assert one.times.p50.value > 0 and one.ratio.value > 0
    assert json.loads(json.dumps(found.as_json()))["equal"] == found.equal


def test_of_a_tolerance_that_nobody_asked_for_nothing_is_said(pair):
    notes = compare_bundles(*pair, rounds=1).notes
    assert not any("tolerance" in note for note in notes)


def test_times_are_to_the_original_and_to_the_fastest(pair, monkeypatch):
    raced_as(monkeypatch, [8, 4, 2], [8, 4, 2.2], [8, 4, 1.8])
    model, bundles, data = pair
    found = compare_bundles(model, bundles, data)
    rows, output = found.bundles
    assert found.original.p95 == Measured(pytest.approx(8), pytest.approx(0))
    assert (rows.ratio.value, rows.ratio.spread) == pytest.approx((0.5, 0))
    assert (output.ratio.value, output.ratio.spread) == pytest.approx((0.25, 0.025))
    assert (output.times.p50.value, output.times.p50.spread) == pytest.approx((2, 0.2))
    assert found.fastest == str(bundles[1])
    assert rows.against_fastest.value == pytest.approx(2)
    assert found.equal == [str(bundles[1])]


def test_what_is_as_fast_within_the_spread_is_equal(pair, monkeypatch):
    raced_as(monkeypatch, [8, 4.1, 4], [8, 4, 4.1], [8, 4.1, 4.05])
    model, bundles, data = pair
    found = compare_bundles(model, bundles, data)
    assert found.fastest == str(bundles[1])
    assert found.equal == [str(path) for path in bundles]


def test_the_original_may_be_the_fastest(pair, monkeypatch):
    raced_as(monkeypatch, [3, 4, 3.1], [3, 4, 2.9], [3, 4, 3.1])
    model, bundles, data = pair
    found = compare_bundles(model, bundles, data)
    assert found.fastest is None
    assert found.equal == [str(bundles[1])]  # no slower, within the spread


def test_errors_are_those_that_bench_gives(made, tmp_path):
    """Where everything of the same length is reused, right or wrong."""
    source = made("bert")
    onnx_memo.optimize(source.model, source.data, tmp_path / "wrong", level="output", threshold=1e6)
    unseen = random_samples(original(source.model), [5, 9, 23, 31], seed=7)
    data = write_samples(tmp_path / "unseen.npz", unseen)
    (wrong,) = compare_bundles(source.model, [tmp_path / "wrong"], data, rounds=1, native=False).bundles
    report = onnx_memo.bench(source.model, tmp_path / "wrong", data, rounds=1, native=False)
    cosine = report.outputs["last_hidden_state"]["cosine"]
    assert wrong.errors is not None and wrong.errors.worst > 1e-3
    assert wrong.errors == Figures(
        *(pytest.approx(1 - getattr(cosine, part), abs=1e-12) for part in ("mean", "p95", "worst"))
    )
    assert wrong.hit_rate == report.hit_rate == 1


def test_what_does_not_fit_is_one_line(pair, made, tmp_path):
    model, bundles, data = pair
    cases = {
        "at least one bundle": (model, []),
        "named twice": (model, [bundles[0], bundles[1], bundles[0].parent / "." / "bundle"]),
        "is no bundle": (model, [bundles[0], tmp_path]),
        "was made from another model": (model, [bundles[0], made("distilbert").bundle]),
    }
    for words, (original_model, paths) in cases.items():
        with pytest.raises(MemoError, match=words) as refused:
            compare_bundles(original_model, paths, data)
        assert "\n" not in str(refused.value)
    for option in ("rounds", "threads"):
        with pytest.raises(MemoError, match="numbers of at least 1"):
            compare_bundles(model, bundles, data, **{option: 0})


def test_a_bundle_that_was_changed_is_refused(pair, tmp_path):
    model, bundles, data = pair
    copy = tmp_path / "copy"
    shutil.copytree(bundles[0], copy)
    (copy / "model.onnx").chmod(0o644)
    (copy / "model.onnx").write_bytes(b"other")
    with pytest.raises(MemoError, match="is damaged or was changed"):
        compare_bundles(model, [bundles[1], copy], data)


def test_bundles_that_bring_different_tokenizers_are_told(tokenizer, tmp_path, made):
    """Which one reads the text must not depend on the order."""
    texts = tmp_path / "texts.txt"
    texts.write_text("a b c\nb c d\n", encoding="utf-8")
    other = tmp_path / "other.json"
    other.write_text(tokenizer.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    model = made("bert").model
    for name, vocabulary in (("one", tokenizer), ("two", other)):
        onnx_memo.optimize(model, texts, tmp_path / name, tokenizer=vocabulary)
    paths = [tmp_path / "one", tmp_path / "two"]
    with pytest.raises(MemoError, match="different tokenizers: name one with --tokenizer"):
        compare_bundles(model, paths, texts)
    found = compare_bundles(model, paths, texts, tokenizer=tokenizer, rounds=1)
    assert [one.hit_rate for one in found.bundles] == [1, 1]
    assert found.bundles[0].kept[0].kept == 2


def test_bundles_with_different_masks_are_told(pair, monkeypatch):
    model, bundles, data = pair
    masks = iter(["attention_mask", "other_mask"])
    monkeypatch.setattr(opening, "mask_of", lambda model: next(masks))
    with pytest.raises(
        MemoError, match=r"\('attention_mask' and 'other_mask'\): make them with the same --mask"
    ):
        compare_bundles(model, bundles, data)


# ---- Another model's answers


def coarse(model: ir.Model) -> None:
    """Weights with 5 bits after the point of their largest number."""
    for value in model.graph.initializers.values():
        numbers = value.const_value.numpy()
        if numbers.dtype == np.float32 and numbers.ndim == 2:
            step = np.float32(max(float(np.abs(numbers).max()), 1e-9) / 32)
            value.const_value = ir.tensor(np.round(numbers / step) * step, name=value.name)


@pytest.fixture(scope="module")
def quantized(pair, tmp_path_factory):
    """A model made from `bert`, coarser, two bundles of it, and the requests."""
    folder = tmp_path_factory.mktemp("quantized")
    model = changed("bert", folder / "coarse.onnx", coarse)
    data = pair[-1]
    for level in ("rows", "output"):
        onnx_memo.optimize(model, data, folder / level, level=level)
    return model, [folder / "rows", folder / "output"], data


def test_the_original_errs_beside_the_bundles(quantized):
    """By as much as what literally repeats it; both are measured from the reference."""
    model, bundles, data = quantized
    found = compare_bundles(model, bundles, data, rounds=1, native=False, reference=fixture("bert"))
    assert (found.reference, found.metric) == ("bert.onnx", "cosine")
    own = found.original_errors
    assert own is not None and 1e-5 < own.mean <= own.p95 <= own.worst
    rows, output = (one.errors for one in found.bundles)
    assert rows == own
    assert output is not None and output != own and output.mean == pytest.approx(own.mean, rel=0.1)
    report = onnx_memo.bench(model, bundles[0], data, rounds=1, native=False, reference=fixture("bert"))
    assert own.worst == pytest.approx(1 - report.outputs["last_hidden_state"]["cosine"].worst, abs=1e-12)
    assert [kept.of for kept in found.original_kept] == [4, 40]
    assert [str(kept) for kept in found.original_kept] == [str(kept) for kept in found.bundles[0].kept]


def test_decisions_are_the_references(quantized, tmp_path):
    """Whose nearest neighbours are others than the model's own: its words are."""
    model, bundles, data = quantized

    def turned(other: ir.Model) -> None:
        words = other.graph.initializers["embeddings.word_embeddings.weight"]
        words.const_value = ir.tensor(np.roll(words.const_value.numpy(), 17, axis=0), name=words.name)

    reference = changed("bert", tmp_path / "turned.onnx", turned)
    found = compare_bundles(model, bundles, data, rounds=1, native=False, reference=reference)
    assert found.original_kept[0].share < 1
    assert found.bundles[0].kept[0].share < 1
    alone = compare_bundles(model, bundles, data, rounds=1, native=False)
    assert alone.bundles[0].kept[0].share == 1


def test_the_model_as_its_own_reference_changes_nothing(pair):
    model, bundles, data = pair
    same = compare_bundles(model, bundles, data, rounds=1, native=False, reference=model)
    bare = compare_bundles(model, bundles, data, rounds=1, native=False)
    assert [one.errors for one in same.bundles] == [one.errors for one in bare.bundles]
    assert same.original_errors is not None and same.original_errors.worst < 1e-12
    assert {kept.share for kept in same.original_kept} == {1.0}
    assert (bare.reference, bare.original_errors, bare.original_kept) == (None, None, [])


def test_a_reference_that_does_not_fit_is_one_line(cli, pair, tmp_path):
    model, bundles, data = pair
    cases = {
        tmp_path / "missing.onnx": "is not a file: name an ONNX model",
        fixture("vit"): "takes 'pixel_values', which the model does not",
        data: "requests.npz",
    }
    for reference, words in cases.items():
        refused = cli("compare", model, *bundles, "--data", data, "--reference", reference)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert words in refused.err


def test_the_command_shows_the_originals_errors(cli, quantized):
    model, bundles, data = quantized
    options = ["--data", data, "--rounds", 1, "--reference", fixture("bert")]
    shown = cli("compare", model, *bundles, *options)
    assert (shown.code, shown.err) == (0, "")
    lines = [re.sub(r"[│┃┡╇┩━\s]+", " ", line).strip() for line in shown.out.splitlines()]
    (worst,) = (line for line in lines if line.startswith("cosine error, worst"))
    assert len(re.findall(r"\d\.\d\de-\d\d", worst)) == 3
    (kept,) = (line for line in lines if line.startswith("the nearest neighbour stays"))
    assert kept.count("%") == 3
    told = " ".join(shown.out.split())
    assert "compared with those of the reference 'bert.onnx', times with the original's" in told
    made = json.loads(cli("compare", model, *bundles, *options, "--json").out)
    assert made["reference"] == "bert.onnx"
    assert set(made["original_errors"]) == {"mean", "p95", "worst"}


# ---- The command


def test_the_command_shows_a_column_for_each(cli, pair, monkeypatch):
    raced_as(monkeypatch, [8, 4, 2], [8, 4, 2.2], [8, 4, 1.8])
    model, bundles, data = pair
    shown = cli("compare", model, *bundles, "--data", data)
    assert (shown.code, shown.err) == (0, "")
    lines = [re.sub(r"[│┃┡╇┩━\s]+", " ", line).strip() for line in shown.out.splitlines()]
    assert "p50, ms 8.00 4.00 2.00 ± 0.20" in lines
    assert "of the original's time 1 0.500 0.250 ± 0.025" in lines
    assert "hits 50.0% 50.0%" in lines
    assert "the nearest neighbour stays 100.0% 100.0%" in lines
    assert "as fast, within the spread: none" in " ".join(shown.out.split())


def test_the_command_gives_json(cli, pair):
    model, bundles, data = pair
    made = json.loads(cli("compare", model, *bundles, "--data", data, "--rounds", 1, "--json").out)
    assert [one["path"] for one in made["bundles"]] == [str(path) for path in bundles]
    assert set(made["bundles"][0]["times"]["p99"]) == {"value", "spread"}


def test_the_command_refuses_in_one_line(cli, pair, tmp_path):
    model, bundles, data = pair
    refused = cli("compare", model, bundles[0], tmp_path, "--data", data)
    assert refused.code == 2
    assert refused.err.count("\n") == 1 and "is no bundle" in refused.err


def side(path: str, ratio: float, against: float, spread: float) -> Compared:
    times = Times(*[Measured(1.0, 0.0)] * 3)
    measured = Measured(ratio, 0.01), Measured(against, spread)
    return Compared(path, times, *measured, 0.5, None, None, [], 2**20)


def shown(rounds: int, fastest: str | None, *sides: Compared) -> str:
    times = Times(*[Measured(1.0, 0.0)] * 3)
    found = SideBySide(9, rounds, 1, "native", "cosine", times, list(sides), fastest, ["a \x1b note"])
    assert set(asdict(found)) < set(found.as_json())
    return " ".join(part for part in tables.side_by_side_tables(found) if isinstance(part, str))


def test_who_is_fastest_is_said_and_who_is_as_fast():
    sides = side("a/one", 0.5, 1.0, 0.0), side("a/two", 0.51, 1.02, 0.03), side("a/three", 1.0, 2.0, 0.1)
    assert "fastest: one; as fast, within the spread: two" in shown(5, "a/one", *sides)
    assert "fastest: the original; as fast, within the spread: one, two" in shown(5, None, *sides)
    assert "one round shows no spread: take --rounds 3 or more" in shown(1, "a/one", *sides)


def test_folders_of_the_same_name_are_told_by_their_paths_and_notes_are_printable():
    text = shown(5, "a/same", side("a/same", 0.5, 1, 0), side("b/same", 0.5, 1.01, 0.02))
    assert "fastest: a/same; as fast, within the spread: b/same" in text
    assert "\x1b" not in text
