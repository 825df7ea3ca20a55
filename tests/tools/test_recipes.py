"""The recipes that make something here: heads on an encoder, exports for a task, texts with subjects."""

from __future__ import annotations

import itertools
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from support import fixture, original
from tokenizers import Tokenizer, processors

from models import antiberty, chatterbot, fetch, heads
from tools.lookalikes.pairs import arrays_of

LETTERS = [" ".join(word) for word in itertools.product("abcde", repeat=3)]


@pytest.fixture
def encoder(tokenizer, tmp_path):
    """The fixture of a BERT as a model's folder; its tokenizer takes pairs."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    shutil.copy(fixture("bert"), folder / "model.onnx")
    made = Tokenizer.from_file(str(tokenizer))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A [CLS] $B:1", special_tokens=[("[CLS]", 0)]
    )
    made.save(str(folder / "tokenizer.json"))
    return heads.Encoder(folder)


def logits(folder: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = original(folder / "model.onnx")
    assert [one.name for one in session.get_outputs()] == ["logits"]
    return session.run(None, feeds)[0]


def single(encoder: heads.Encoder, text: str) -> dict[str, np.ndarray]:
    made = Tokenizer.from_file(str(encoder.tokenizer))
    made.no_padding()
    ids = np.array([made.encode(text).ids], np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


# ---- Fitting


def test_ridge_finds_a_linear_law_and_its_bias():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((2000, 4)) * [1, 10, 0.1, 3] + 5
    law = np.array([[1.0, -2.0], [0.3, 0.0], [4.0, 8.0], [0.0, 1.0]])
    weights, bias = heads.ridge(features, features @ law + [7, -7])
    assert weights == pytest.approx(law, rel=2 * heads.RIDGE, abs=0.05)
    assert (features @ weights + bias).mean(axis=0) == pytest.approx((features @ law + [7, -7]).mean(axis=0))


def test_a_feature_that_never_changes_has_no_weight():
    features = np.random.default_rng(0).standard_normal((50, 3))
    features[:, 1] = 4.0
    weights, bias = heads.ridge(features, features[:, :1])
    assert weights[1, 0] == 0
    assert np.isfinite([*weights[:, 0], *bias]).all()


# ---- Heads


def test_a_classifier_finds_the_labels_it_was_fitted_on(encoder, tmp_path, capsys):
    labels = [{"a": "first", "b": "second"}.get(text[0], "other") for text in LETTERS]
    files = heads.write_classifier(encoder, LETTERS, labels, tmp_path)
    assert sorted(file.name for file in files) == ["config.json", "model.onnx", "tokenizer.json"]
    assert "3 classes; of 25 texts that were not fitted" in capsys.readouterr().out
    names = json.loads((tmp_path / "config.json").read_text())["id2label"]
    assert names == {"0": "first", "1": "other", "2": "second"}
    found = [names[str(logits(tmp_path, single(encoder, text)).argmax())] for text in LETTERS]
    assert np.mean(np.array(found) == labels) > 0.8


@pytest.mark.parametrize("width", [1, 2])
def test_a_head_reads_real_tokens_alone(encoder, tmp_path, width):
    size = encoder.features(["a"]).shape[1] // 2
    weights = np.random.default_rng(0).standard_normal((width * size, 4))
    made = heads.with_head(encoder.model, weights, np.arange(4.0))
    onnx.save(made, tmp_path / "model.onnx")
    added = {one.name for one in made.graph.initializer if one.name.startswith("head/")}
    assert added <= {name for node in made.graph.node for name in node.input}
    pair = ("a b c d", "e d")
    feeds = arrays_of([pair, ("a", "b")], encoder.tokenizer)
    padded = logits(tmp_path, feeds)
    expected = encoder.features([pair, ("a", "b")])[:, -width * size :] @ weights + np.arange(4)
    assert feeds["attention_mask"].sum(axis=1).tolist() == [8, 4]
    assert padded == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_the_encoder_is_left_as_it_was(encoder):
    before = encoder.model.SerializeToString()
    heads.with_head(encoder.model, np.zeros((32, 2)), np.zeros(2))
    assert encoder.model.SerializeToString() == before


def test_a_reranker_scores_pairs_as_their_embeddings_do(encoder, tmp_path, capsys):
    heads.write_reranker(encoder, LETTERS, tmp_path)
    assert "correlate" in capsys.readouterr().out
    pairs = list(itertools.product(LETTERS[::9], LETTERS[::11]))
    scores = logits(tmp_path, arrays_of(pairs, encoder.tokenizer))
    assert scores.shape == (len(pairs), 1)
    one, other = (encoder.means(texts) for texts in zip(*pairs, strict=True))
    cosines = (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert np.corrcoef(scores[:, 0], cosines)[0, 1] > 0.25  # of an encoder with random weights


def test_what_was_made_is_made_again_only_if_it_changed(tmp_path):
    runs = []

    def write(work: Path) -> list[Path]:
        runs.append(work)
        (work / "file").write_text("content")
        return [work / "file"]

    for _ in range(2):
        assert heads.made(tmp_path / "it", "a source", write) == tmp_path / "it"
    assert len(runs) == 1
    (tmp_path / "it" / "file").write_text("damaged")
    heads.made(tmp_path / "it", "a source", write)
    heads.made(tmp_path / "it", "another source", write)
    assert len(runs) == 3
    assert sorted(path.name for path in (tmp_path / "it").iterdir()) == [fetch.SUMS, "file"]
    assert not list(tmp_path.glob(".it*"))


# ---- Sources


def test_antiberty_is_exported_with_its_head_and_without(tmp_path, monkeypatch):
    asked = []

    def export(model: Path, to: Path, task: str) -> None:
        asked.append(task)
        to.mkdir()
        (to / "model.onnx").write_bytes(task.encode())

    def take(wheel: Path, member: str, to: Path) -> None:
        to.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nA\nC\n" if member.endswith("vocab.txt") else "")

    monkeypatch.setattr(antiberty, "require_exporter", lambda: None)
    monkeypatch.setattr(antiberty, "download", lambda wheel, into: into / "wheel")
    monkeypatch.setattr(antiberty, "take", take)
    monkeypatch.setattr(antiberty, "check", lambda *_: None)
    monkeypatch.setattr(antiberty, "export_model", export)
    for _ in range(2):  # the second time nothing is exported
        folders = [antiberty.bring(tmp_path), antiberty.bring_masked_lm(tmp_path)]
    assert [folder.name for folder in folders] == ["antiberty", "antiberty-mlm"]
    assert asked == ["feature-extraction", "fill-mask"]
    assert [(folder / "model.onnx").read_text() for folder in folders] == asked
    encoded = Tokenizer.from_file(str(folders[1] / "tokenizer.json")).encode("AC A")
    assert encoded.tokens == ["[CLS]", "A", "C", "A", "[SEP]"]


def test_an_utterance_has_the_first_of_its_subjects(tmp_path, monkeypatch):
    pytest.importorskip("yaml", reason="the extra `demo` is not installed")

    def download(wheel: fetch.Wheel, into: Path) -> Path:
        with zipfile.ZipFile(into / "corpus.whl", "w") as made:
            made.writestr(f"{chatterbot.FOLDER}sports.yml", 'conversations: [["Hi", "Do you\\nrun?"], Bye]')
            made.writestr(f"{chatterbot.FOLDER}ai.yml", 'conversations: [["Hi", "I am \\"it\\""]]')
            made.writestr(f"{chatterbot.FOLDER}README.md", "no conversation")
        return into / "corpus.whl"

    monkeypatch.setattr(chatterbot, "download", download)
    monkeypatch.setattr(chatterbot, "check", lambda *_: None)
    lines = ["Hi", 'I am "it"', "Do you run?", "Bye"]
    assert chatterbot.bring(tmp_path).read_text().splitlines() == lines
    records = [json.loads(line) for line in chatterbot.bring_labelled(tmp_path).read_text().splitlines()]
    assert [(one["text"], one["category"]) for one in records] == list(
        zip(lines, ["ai", "ai", "sports", "sports"], strict=True)
    )
