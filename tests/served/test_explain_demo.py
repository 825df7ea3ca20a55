"""What is explained of texts on a real model, against a session that gives what its lookup and rows chose."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from support import ROOT, Arrays, raced
from tokenizers import Tokenizer

import onnx_memo
from onnx_memo.levels.rows import propose
from onnx_memo.levels.rows.trial import RowsTrial
from onnx_memo.served import explanation as say

DEMO = ROOT / "models" / "cache" / "minilm-demo"
TOLERANCE = 0.02
DOORS, NAMES = ("north", "south", "east", "west", "back"), ("anna", "bert", "carl", "dora", "emil", "frida")
REPEAT = "user anna opened the north door with card 1007 and left it open"
NEAR = "user anna opened the north door with card 1008 and left it shut"
FAR = "why do seven tired whales never dream of any blue mountain or snow tonight"
LONG = f"{REPEAT}, and then everybody in the house went to look for the cat in the garden"

pytestmark = pytest.mark.skipif(not (DEMO / "model.onnx").is_file(), reason="`make test` brings the model")


def line(at: int) -> str:
    state = "open" if at % 7 else "shut"
    who, door = NAMES[at % 6], DOORS[at % 5]
    return f"user {who} opened the {door} door with card {1000 + at % 211} and left it {state}"


@dataclass(frozen=True)
class Traced:
    """A bundle, the original, and a session on the bundle with the entry, the hit and rows as outputs."""

    bundle: Path
    data: Path
    run: Callable[
        [str], tuple[Arrays, Arrays]
    ]  # of a text: what the original gives, and what this session does


@pytest.fixture(scope="module")
def traced(tmp_path_factory) -> Traced:
    """With the products of the rows in int8; all bounds take the same time here."""
    folder = tmp_path_factory.mktemp("traced")
    data = folder / "sample.txt"
    lines = [*[REPEAT] * 9, *map(line, range(1, 192))]  # some of them are in the store part
    data.write_text("\n".join(lines), encoding="utf-8")
    every = propose.precisions
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowsTrial, "race", lambda *_: raced(0.1))
        patch.setattr(
            propose, "precisions", lambda *given: [way for way in every(*given) if way[0] == "int8"]
        )
        made = onnx_memo.optimize(DEMO / "model.onnx", data, folder / "bundle", tolerance=TOLERANCE)
    model = onnx.load(made.path / "model.onnx", load_external_data=False)
    wanted = {"memo/encoder/entry": onnx.TensorProto.INT64, "memo/encoder/hit": onnx.TensorProto.BOOL}
    names = [name for node in model.graph.node for name in node.output]
    wanted |= {name: onnx.TensorProto.INT64 for name in names if name.startswith("memo/encoder/rows")}
    assert set(wanted) <= set(names)
    own = [value.name for value in model.graph.output]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in wanted.items()
    )
    copy = folder / "traced"
    copy.mkdir()
    for file in made.path.glob("*.data"):
        os.link(file, copy / file.name)
    onnx.save(model, copy / "model.onnx")
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    tokenizer.no_padding()
    before, after = (
        ort.InferenceSession(str(path), onnx_memo.session_options())
        for path in (DEMO / "model.onnx", copy / "model.onnx")
    )

    def run(text: str) -> tuple[Arrays, Arrays]:
        found = tokenizer.encode(text)
        arrays = {
            "input_ids": found.ids,
            "attention_mask": found.attention_mask,
            "token_type_ids": found.type_ids,
        }
        feeds = {one.name: np.asarray([arrays[one.name]]) for one in before.get_inputs()}
        return (
            dict(zip(own, before.run(None, feeds), strict=True)),
            dict(zip([*own, *wanted], after.run(None, feeds), strict=True)),
        )

    return Traced(made.path, data, run)


def pooled_error(want: Arrays, have: Arrays) -> float:
    """1 - cosine of the mean over the tokens; texts here are not padded."""
    one, other = (each["last_hidden_state"][0].astype(np.float64).mean(axis=0) for each in (want, have))
    return float(1 - one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def stages_of(seen: Arrays) -> list[str]:
    """The outputs with the rows that run, from the first stage to the last."""
    names = [name for name in seen if name.startswith("memo/encoder/rows")]
    return sorted(names, key=lambda name: int(name.rpartition(".")[2]) if "." in name else 0)


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (REPEAT, say.REPEAT),
        (NEAR, say.SOME_ROWS),
        (LONG, say.OTHER_LENGTH),
        (FAR, say.TOO_FAR),
    ],
)
def test_a_text_is_explained_as_a_session_saw_it(traced, text, outcome):
    one = onnx_memo.explain(traced.bundle, text=text)
    want, seen = traced.run(text)
    hit, entry = bool(seen["memo/encoder/hit"]), int(seen["memo/encoder/entry"][0])
    assert one.outcome == outcome
    assert (one.reused, one.lookups[0].reused) == (hit, hit)
    assert entry in (-1, one.lookups[0].nearest)
    assert one.error == pytest.approx(pooled_error(want, seen), rel=1e-3, abs=1e-7)
    if not hit:
        assert 0 < one.error < 1e-3, "what reuses nothing runs in 8 bits"
        return
    ran = [set(seen[name].tolist()) for name in stages_of(seen)]
    told = [
        {at for at, row in enumerate(one.rows.rows) if row.layer is not None and row.layer <= stage.first}
        for stage in one.rows.stages
    ]
    assert told == ran[: len(told)]
    assert not any(ran[len(told) :])
    assert [stage.ran for stage in one.rows.stages] == [len(rows) for rows in ran[: len(told)]]
    assert one.rows.rows[1].token == "user"


def test_the_answer_is_told_against_the_tolerance(traced, cli):
    shown = " ".join(cli("explain", traced.bundle, "--text", NEAR).out.split())
    assert "the text: some rows" in shown
    assert "within the tolerance 0.02" in shown
    assert "promised for requests like the sample: at least 95 % of the answers are within 0.02" in shown
    told = json.loads(cli("explain", traced.bundle, "--text", NEAR, "--json").out)
    assert told["promised"] == {
        "metric": "cosine",
        "tolerance": TOLERANCE,
        "within": 0.95,
        "confidence": 0.95,
        "reference": None,
        "reference_sha256": None,
        "outputs": [],
        "slack": 1.1,
    }


def test_the_text_of_the_entry_is_found_in_the_sample(traced):
    """An entry that differs in as few words as any line of the sample does."""
    one = onnx_memo.explain(traced.bundle, text=NEAR, sample=traced.data)
    lines = traced.data.read_text(encoding="utf-8").splitlines()
    assert one.entry_text in lines
    apart = [sum(a != b for a, b in zip(text.split(), NEAR.split(), strict=True)) for text in lines]
    assert apart[lines.index(one.entry_text)] <= min(apart) + 1


def test_with_the_sample_the_decision_is_told(traced, cli):
    """By all answers of the original, and those of the session: the sample has no more than are looked at."""
    lines = traced.data.read_text(encoding="utf-8").splitlines()
    known = [traced.run(text)[0]["last_hidden_state"][0].astype(np.float64).mean(axis=0) for text in lines]
    vectors = np.stack([vector / np.linalg.norm(vector) for vector in known])
    want, seen = (each["last_hidden_state"][0].astype(np.float64).mean(axis=0) for each in traced.run(NEAR))
    before, after = (1 - vectors @ (one / np.linalg.norm(one)) for one in (want, seen))
    told = json.loads(cli("explain", traced.bundle, "--text", NEAR, "--sample", traced.data, "--json").out)
    decided = told["decided"]
    assert decided["decision"] == "neighbours"
    assert decided["before"] == f"{before.min():.2g} away: {lines[before.argmin()]}"
    assert decided["after"] == f"{after.min():.2g} away: {lines[after.argmin()]}"
    assert decided["stays"] == bool(before[after.argmin()] <= 1.1 * before.min())
    shown = " ".join(cli("explain", traced.bundle, "--text", NEAR, "--sample", traced.data).out.split())
    stays = "the same" if decided["stays"] else "another"
    assert "one answer does not tell" not in shown
    assert f"the decision (neighbours, by output 'last_hidden_state') is {stays}" in shown
    assert " ".join(f"with the original: {decided['before']}".split()) in shown


def test_without_it_whether_the_decision_stays_is_not_known(traced, cli):
    shown = " ".join(cli("explain", traced.bundle, "--text", NEAR).out.split())
    told = "whether the decision stays, one answer does not tell: --sample FILE names other inputs"
    assert told in shown
    assert told in " ".join(cli("explain", traced.bundle, "--text", FAR).out.split()), "it runs in 8 bits"
    same = " ".join(cli("explain", traced.bundle, "--text", REPEAT).out.split())
    assert told not in same, "the answer is the original's"


def test_the_worst_of_a_file_are_those_with_the_largest_errors(traced, tmp_path):
    texts = [REPEAT, NEAR, LONG, FAR, line(9).replace("card", "key")]
    data = tmp_path / "requests.txt"
    data.write_text("\n".join(texts), encoding="utf-8")
    worst = onnx_memo.worst_served(traced.bundle, data)
    errors = {f"line {at}": pooled_error(*traced.run(text)) for at, text in enumerate(texts, 1)}
    assert worst.requests == 5
    assert worst.reused[0].error == pytest.approx(max(errors.values()), rel=1e-3)
    assert errors[worst.reused[0].place] == max(errors.values())
    assert {one.place for one in worst.missed} == {"line 3", "line 4"}
