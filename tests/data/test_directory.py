"""Model directories: which ONNX file is taken, what it would be exported for, and what comes along."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support import contents, copied, fixture, nothing_left_in, variants, write_samples

import onnx_memo
from onnx_memo.data.directory import ModelDirectory
from onnx_memo.data.export import as_onnx
from onnx_memo.errors import MemoError

TRANSFORMER, POOLING = "sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling"
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": TRANSFORMER},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": POOLING},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def write(path: Path, content: object) -> Path:
    """A file, of JSON if it is no bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a configuration and one ONNX file, as a hub lays it out."""
    path = tmp_path / "model"
    write(path / "config.json", {"architectures": ["BertModel"]})
    write(path / "onnx" / "model.onnx", fixture("bert").read_bytes())
    return path


@pytest.fixture
def sentence_directory(directory: Path) -> Path:
    """The same as sentence-transformers saves it."""
    write(directory / "modules.json", MODULES)
    write(directory / "config_sentence_transformers.json", {"prompts": {"query": "query: "}})
    write(directory / "sentence_bert_config.json", {"max_seq_length": 64})
    write(directory / "1_Pooling" / "config.json", {"pooling_mode": "cls"})
    write(directory / "model.safetensors", b"weights")
    write(directory / "requests.txt", b"what somebody asked")
    return directory


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_samples(tmp_path / "data.npz", variants(12, seed=1))


def beside(bundle: Path) -> set[str]:
    """What a bundle holds beside its model and manifest."""
    own = ("model.onnx", "manifest.json", "memo-", "weights-")
    return {name for name, content in contents(bundle).items() if content is not None} - {
        file.relative_to(bundle).as_posix() for file in bundle.rglob("*") if file.name.startswith(own)
    }


# ---- Which file


@pytest.mark.parametrize(
    ("there", "named", "taken"),
    [
        (["model.onnx"], None, "model.onnx"),
        (["onnx/model.onnx"], None, "onnx/model.onnx"),
        (["onnx/model.onnx", "model.onnx", "a.onnx"], None, "model.onnx"),
        (["onnx/model.onnx", "onnx/model_O2.onnx"], "onnx/model_O2.onnx", "onnx/model_O2.onnx"),
    ],
)
def test_the_onnx_file_that_is_there_is_taken(tmp_path, there, named, taken):
    for name in there:
        write(tmp_path / name, b"")
    with as_onnx(tmp_path, named) as source:
        assert source.onnx == tmp_path / taken
        assert (source.file, source.task) == (taken, None)


def test_the_summary_names_the_file_and_its_outputs(cli, directory, data, tmp_path):
    outcome = cli("optimize", directory, "--data", data, "-o", tmp_path / "bundle")
    assert outcome.code == 0
    said = " ".join(outcome.out.split())
    assert "the directory's 'onnx/model.onnx' is taken; outputs: 'last_hidden_state'" in said


def test_what_was_taken_is_kept_and_bench_takes_it_again(directory, data, tmp_path):
    write(directory / "onnx" / "other.onnx", fixture("bert_opset11").read_bytes())
    made = onnx_memo.optimize(directory, data, tmp_path / "bundle", file="onnx/other.onnx")
    assert made.manifest.source_file == "onnx/other.onnx"
    assert onnx_memo.bench(directory, made.path, data, rounds=1).hit_rate == 1
    compared = onnx_memo.compare_bundles(directory, [made.path], data, rounds=1)
    assert compared.bundles[0].hit_rate == 1
    write(directory / "onnx" / "other.onnx", fixture("bert").read_bytes())
    with pytest.raises(MemoError, match="was made from another model"):
        onnx_memo.bench(directory, made.path, data, rounds=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"file": "x.onnx"}, r"no file 'x\.onnx'.*its ONNX files \(--file\): 'onnx/model\.onnx'"),
        ({"file": "../outside.onnx"}, r"no file '\.\./outside\.onnx'"),
        ({"file": "onnx/model.onnx", "task": "fill-mask"}, "give one of them"),
    ],
)
def test_a_file_that_is_not_there_is_refused(directory, options, said):
    write(directory.parent / "outside.onnx", fixture("bert").read_bytes())
    with pytest.raises(MemoError, match=said):
        onnx_memo.inspect(directory, **options)


@pytest.mark.parametrize("options", [{"file": "model.onnx"}, {"task": "fill-mask"}])
def test_options_of_directories_do_not_go_with_a_file(options):
    with pytest.raises(MemoError, match="goes with a model directory"):
        onnx_memo.inspect(fixture("bert"), **options)


def test_a_directory_with_other_onnx_files_alone_names_them(tmp_path):
    for number in range(7):
        write(tmp_path / f"model_{number}.onnx", b"")
    with pytest.raises(
        MemoError, match=r"without config\.json.*'model_0\.onnx', .*'model_4\.onnx' and 2 more"
    ):
        onnx_memo.inspect(tmp_path)


def test_a_bundle_that_lost_its_manifest_is_no_model(made, tmp_path):
    bundle = copied(made("bert").bundle, tmp_path / "bundle")
    (bundle / "manifest.json").unlink()
    with pytest.raises(MemoError, match="is the model of a bundle"):
        onnx_memo.inspect(bundle)


# ---- What it is exported for


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("BertModel", "feature-extraction"),
        ("DebertaV2ForSequenceClassification", "text-classification"),
        ("XLMRobertaForTokenClassification", "token-classification"),
        ("ModernBertForMaskedLM", "fill-mask"),
        ("RobertaForQuestionAnswering", "question-answering"),
        ("BertForMultipleChoice", "multiple-choice"),
        ("ViTForImageClassification", "image-classification"),
        ("Qwen3ForCausalLM", "text-generation"),
        ("GPT2LMHeadModel", "text-generation"),
        ("T5ForConditionalGeneration", "feature-extraction"),
    ],
)
def test_a_head_is_kept(tmp_path, architecture, task):
    write(tmp_path / "config.json", {"architectures": [architecture]})
    assert ModelDirectory(tmp_path).task().name == task


@pytest.mark.parametrize("config", [{}, {"architectures": None}, {"architectures": [3]}])
def test_without_an_architecture_there_is_no_head(tmp_path, config):
    write(tmp_path / "config.json", config)
    assert ModelDirectory(tmp_path).task().name == "feature-extraction"


@pytest.mark.parametrize(
    ("kind", "config", "task"),
    [
        (TRANSFORMER, {}, "feature-extraction"),
        (TRANSFORMER, {"transformer_task": "fill-mask"}, "fill-mask"),
        (TRANSFORMER, {"transformer_task": "sequence-classification"}, "text-classification"),
        ("sentence_transformers.sparse_encoder.models.MLMTransformer", {}, "fill-mask"),
    ],
)
def test_of_sentence_transformers_their_task_counts(tmp_path, kind, config, task):
    """Whatever head the architecture names: they use the states, unless they say otherwise."""
    write(tmp_path / "config.json", {"architectures": ["BertForMaskedLM"]})
    write(tmp_path / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": kind}])
    write(tmp_path / "sentence_bert_config.json", config)
    assert ModelDirectory(tmp_path).task().name == task


# ---- What comes along


def test_what_libraries_load_comes_along_and_nothing_else(sentence_directory, data, tmp_path):
    made = onnx_memo.optimize(sentence_directory, data, tmp_path / "bundle")
    assert beside(made.path) == {
        "config.json",
        "modules.json",
        "config_sentence_transformers.json",
        "sentence_bert_config.json",
        "1_Pooling/config.json",
    }
    for name in beside(made.path):
        assert (made.path / name).read_bytes() == (sentence_directory / name).read_bytes()
    assert set(made.manifest.files) >= beside(made.path)
    assert onnx_memo.bench(sentence_directory, made.path, data, rounds=1).hit_rate == 1


def test_weights_of_modules_come_along(sentence_directory):
    modules = [
        *MODULES,
        {"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"},
    ]
    write(sentence_directory / "modules.json", modules)
    weights = write(sentence_directory / "3_Dense" / "model.safetensors", b"a matrix")
    assert ModelDirectory(sentence_directory).companions()["3_Dense/model.safetensors"] == weights


def test_a_transformer_in_a_folder_of_its_own_becomes_the_bundles(tmp_path, data):
    """As sentence-transformers saved it before version 2."""
    old = tmp_path / "old"
    first = {**MODULES[0], "path": "0_Transformer"}
    write(old / "modules.json", [first, *MODULES[1:]])
    write(old / "0_Transformer" / "config.json", {"hidden_size": 32})
    write(old / "0_Transformer" / "sentence_bert_config.json", {"max_seq_length": 64})
    write(old / "0_Transformer" / "model.onnx", fixture("bert").read_bytes())
    write(old / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    made = onnx_memo.optimize(old, data, tmp_path / "bundle")
    wanted = {"config.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json"}
    assert beside(made.path) == wanted
    assert json.loads((made.path / "modules.json").read_text()) == MODULES
    assert json.loads((made.path / "config.json").read_text()) == {"hidden_size": 32}


# ---- The cache of a hub


@pytest.mark.parametrize("shared", [False, True], ids=["own blobs", "blobs of all"])
def test_the_cache_of_a_hub_is_read_through_its_links(sentence_directory, data, tmp_path, shared):
    repository = tmp_path / "hub" / "models--some--model"
    snapshot = repository / "snapshots" / ("5" * 40)
    for number, file in enumerate(sorted(p for p in sentence_directory.rglob("*") if p.is_file())):
        blob = write(repository / "blobs" / f"{number}", file.read_bytes())
        if shared:
            whole = tmp_path / "hub" / "blobs" / f"{number}"
            whole.parent.mkdir(exist_ok=True)
            blob.rename(whole)
            blob.symlink_to(whole)
        link = snapshot / file.relative_to(sentence_directory)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    made = onnx_memo.optimize(snapshot, data, tmp_path / "bundle")
    assert "1_Pooling/config.json" in beside(made.path)
    assert not any(path.is_symlink() for path in made.path.rglob("*"))


# ---- Directories from strangers


@pytest.mark.parametrize(
    "path",
    ["../../etc", "/etc", "..", "1_Pooling/../../etc", "1_Pooling//x", "a\\b", "c:d", ".", "x\0y", 7, None],
)
def test_modules_outside_of_the_directory_are_refused(cli, sentence_directory, data, tmp_path, path):
    write(sentence_directory.parent / "etc" / "secret.json", {"secret": 1})
    modules = [*MODULES, {"idx": 3, "name": "3", "path": path, "type": POOLING}]
    write(sentence_directory / "modules.json", modules)
    with nothing_left_in(tmp_path):
        outcome = cli("optimize", sentence_directory, "--data", data, "-o", tmp_path / "bundle")
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    assert "modules.json' " in outcome.err


def link_a_file(directory: Path, outside: Path) -> None:
    (directory / "tokenizer_config.json").symlink_to(outside / "secret.json")


def link_a_folder(directory: Path, outside: Path) -> None:
    (directory / "2_Normalize").symlink_to(outside)


def link_the_list(directory: Path, outside: Path) -> None:
    (directory / "modules.json").unlink()
    (directory / "modules.json").symlink_to(outside / "secret.json")


# Folders that are no cache of a hub, or not this one's, though they look like it.
PLACES = [
    ("model", "elsewhere"),
    ("snapshots/5555", "blobs"),
    ("no-model/snapshots/5555", "no-model/blobs"),
    ("models--a--b/other/5555", "models--a--b/blobs"),
    ("models--a--b/snapshots/5555", "models--c--d/blobs"),
]


@pytest.mark.parametrize("link", [link_a_file, link_a_folder, link_the_list])
@pytest.mark.parametrize(("place", "elsewhere"), PLACES)
def test_links_out_of_the_directory_are_not_followed(
    cli, sentence_directory, data, tmp_path, link: Callable[[Path, Path], None], place, elsewhere
):
    root = tmp_path / "moved"
    write(root / elsewhere / "secret.json", MODULES)
    link(sentence_directory, root / elsewhere)
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    sentence_directory.rename(root / place)
    with nothing_left_in(tmp_path):
        outcome = cli("optimize", root / place, "--data", data, "-o", tmp_path / "bundle")
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    assert "a link out of its directory" in outcome.err


@pytest.mark.parametrize("name", ["modules.json", "config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"3", b"\xff", b"[" * 100_000, b'"' + b"x" * 2**24 + b'"'])
def test_files_that_cannot_be_read_are_named(tmp_path, name, content):
    write(tmp_path / "config.json", {})
    write(tmp_path / name, content)
    with pytest.raises(MemoError, match=f"{name}' cannot be read"), as_onnx(tmp_path):
        pass


# ---- Layouts


@pytest.mark.parametrize(("layout", "place"), [("flat", "."), ("onnx", "onnx")])
def test_the_model_stands_where_the_layout_has_it(sentence_directory, data, tmp_path, layout, place):
    made = onnx_memo.optimize(sentence_directory, data, tmp_path / "bundle", layout=layout)
    folder = made.path / place
    assert (folder / "model.onnx").is_file()
    assert len(list(folder.glob("memo-*.data"))) == 1
    assert (made.path / "1_Pooling" / "config.json").is_file()
    assert onnx_memo.bench(sentence_directory, made.path, data, rounds=1).hit_rate == 1
    compared = onnx_memo.compare_bundles(sentence_directory, [made.path], data, rounds=1)
    assert compared.bundles[0].memo_bytes == next(folder.glob("memo-*.data")).stat().st_size
    assert onnx_memo.explain(made.path, data=data, line=1).outcome


def test_a_layout_that_is_none_is_refused(cli, directory, data, tmp_path):
    with nothing_left_in(tmp_path):
        outcome = cli("optimize", directory, "--data", data, "-o", tmp_path / "b", "--layout", "deep")
    assert (outcome.code, outcome.out) == (2, "")
    assert "no layout 'deep': --layout takes flat or onnx" in outcome.err


def test_a_module_that_stands_where_the_model_shall_is_refused(sentence_directory, data, tmp_path):
    write(sentence_directory / "modules.json", [*MODULES[:2], {**MODULES[2], "path": "onnx"}])
    with nothing_left_in(tmp_path), pytest.raises(MemoError, match=r"brings 'onnx/model\.onnx'"):
        onnx_memo.optimize(sentence_directory, data, tmp_path / "bundle", layout="onnx")
