"""What a user may bring as data, and how each misfit is answered."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnx_memo import MemoError
from onnx_memo.data.given import Data
from onnx_memo.data.readers import READERS, read_samples
from onnx_memo.data.samples import ModelInput, Samples
from onnx_memo.data.texts import Reading
from onnx_memo.data.tokens import load_tokenizer

I64 = np.dtype(np.int64)
IDS = ModelInput("input_ids", I64, (None, None))
MASK = ModelInput("attention_mask", I64, (None, None), mask=True)
TYPES = ModelInput("token_type_ids", I64, (None, None))
POSITIONS = ModelInput("position_ids", I64, (None, None))
PIXELS = ModelInput("pixel_values", np.dtype(np.float32), (None, 3, 16, 16))


def text(folder: Path, content: str, name: str = "data.txt") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def ids(samples: Samples) -> list[list[int]]:
    return [arrays["input_ids"][0].tolist() for arrays in samples.arrays]


# ---- Kinds of files


def test_a_new_kind_of_file_is_a_line_in_the_registry(tmp_path, monkeypatch):
    given = []

    def read_numbers(reading, content):
        given.append((reading, content.whole()))
        return Samples([{"input_ids": np.asarray([[7]])}], [1], None)

    data = text(tmp_path, "7", "data.num")
    refused(
        data, "ends in '.num': inputs come as .txt, .log, .csv, .*, .faa or .npz, each also with .gz or .zst"
    )
    monkeypatch.setitem(READERS, ".num", read_numbers)
    assert ids(read_samples(data, [IDS], None)) == [[7]]
    packed = tmp_path / "data.num.gz"
    packed.write_bytes(gzip.compress(b"8"))
    assert ids(read_samples(packed, [IDS], None)) == [[7]]
    assert given == [(Reading(Data(data), [IDS]), b"7"), (Reading(Data(packed), [IDS]), b"8")]
    refused(text(tmp_path, "7", "data.xml"), "inputs come as .txt, .log, .csv, .*, .npz or .num, ")


def loads_tokenizers(statement: str) -> bool:
    """Whether a statement imports the library `tokenizers`, in a new interpreter."""
    code = f"import sys; {statement}; print('tokenizers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True"


def test_only_reading_text_loads_the_tokenizers(tmp_path, tokenizer):
    assert not loads_tokenizers("import onnx_memo.data.samples")
    read = "import numpy as np; from pathlib import Path; from onnx_memo.data.readers import read_samples; "
    read += "from onnx_memo.data.samples import ModelInput; "
    read += "ids = ModelInput('input_ids', np.dtype(np.int64), (None, None)); "
    of_arrays = arrays(tmp_path, input_ids=np.ones((1, 4), np.int64))
    assert not loads_tokenizers(f"{read} read_samples(Path({str(of_arrays)!r}), [ids], None)")
    of_text = text(tmp_path, "a b")
    assert loads_tokenizers(f"{read} read_samples(Path({str(of_text)!r}), [ids], Path({str(tokenizer)!r}))")


# ---- Text


def test_each_line_of_a_txt_is_a_sample_without_padding(tmp_path, tokenizer):
    data = text(tmp_path, "a b\n\n  \nc\r\ne e e")
    samples = read_samples(data, [IDS, MASK], tokenizer)
    assert ids(samples) == [[0, 1, 2], [0, 3], [0, 5, 5, 5]]
    assert samples.lengths == [3, 2, 4]
    assert samples.mask == "attention_mask"


def test_the_field_text_of_each_jsonl_line_is_a_sample(tmp_path, tokenizer):
    data = text(tmp_path, '{"text": "a b", "id": 7}\n\n{"text": "c"}\n', "data.jsonl")
    assert ids(read_samples(data, [IDS], tokenizer)) == [[0, 1, 2], [0, 3]]


@pytest.mark.parametrize("separator", ["\u2028", "\x0b", "\x85"])
def test_only_line_feeds_end_a_line(tmp_path, tokenizer, separator):
    assert ids(read_samples(text(tmp_path, f"a{separator}b"), [IDS], tokenizer)) == [[0, 1, 2]]


def test_a_byte_order_mark_is_no_text(tmp_path, tokenizer):
    assert ids(read_samples(text(tmp_path, "\ufeffa"), [IDS], tokenizer)) == [[0, 1]]


def test_a_tokenizer_fills_every_input_it_knows(tmp_path, tokenizer):
    samples = read_samples(text(tmp_path, "a b"), [IDS, MASK, TYPES, POSITIONS], tokenizer)
    arrays = {name: array.tolist() for name, array in samples.arrays[0].items()}
    assert arrays == {
        "input_ids": [[0, 1, 2]],
        "attention_mask": [[1, 1, 1]],
        "token_type_ids": [[0, 0, 0]],
        "position_ids": [[0, 1, 2]],
    }


def test_a_tokenizers_own_limit_holds(tmp_path, tokenizer):
    limited = load_tokenizer(tokenizer)
    limited.enable_truncation(3)
    limited.save(str(tokenizer))
    assert ids(read_samples(text(tmp_path, "a b c d e"), [IDS], tokenizer)) == [[0, 1, 2]]


def test_inputs_take_the_models_own_types(tmp_path, tokenizer):
    narrow = ModelInput("input_ids", np.dtype(np.int32), (None, None))
    assert read_samples(text(tmp_path, "a"), [narrow], tokenizer).arrays[0]["input_ids"].dtype == np.int32


# ---- Arrays


def arrays(folder: Path, **content: np.ndarray) -> Path:
    path = folder / "data.npz"
    np.savez(path, **content)
    return path


def test_the_first_axis_counts_samples_and_the_mask_tells_lengths(tmp_path):
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1]])
    data = arrays(tmp_path, input_ids=np.array([[5, 6, 0, 0], [1, 2, 3, 4]]), attention_mask=mask)
    samples = read_samples(data, [IDS, MASK], None)
    assert ids(samples) == [[5, 6], [1, 2, 3, 4]]
    assert samples.lengths == [2, 4]
    assert samples.notes == []


def test_samples_without_right_padding_are_left_out_and_counted(tmp_path):
    mask = np.array([[0, 0, 1], [1, 0, 1], [0, 0, 0], [2, 0, 0], [1, 1, 0]])
    samples = read_samples(
        arrays(tmp_path, input_ids=np.ones((5, 3), np.int64), attention_mask=mask), [IDS, MASK], None
    )
    assert samples.lengths == [2]
    (note,) = samples.notes
    assert note.startswith("4 inputs left out: their 'attention_mask' is no right padding")
    assert note.endswith("first input 1")
    assert samples.place(0) == "input 5"


def test_without_a_mask_samples_stay_as_they_are(tmp_path):
    pixels = np.random.default_rng(0).standard_normal((2, 3, 16, 16), np.float32)
    samples = read_samples(arrays(tmp_path, pixel_values=pixels, unused=np.zeros(9)), [PIXELS], None)
    assert samples.mask is None
    np.testing.assert_array_equal(samples.arrays[1]["pixel_values"], pixels[1:])


def test_axes_that_the_model_fixes_are_not_trimmed(tmp_path):
    fixed = ModelInput("input_ids", I64, (None, 4))
    mask = ModelInput("attention_mask", I64, (None, 4), mask=True)
    data = arrays(tmp_path, input_ids=np.ones((1, 4), np.int64), attention_mask=np.array([[1, 1, 0, 0]]))
    assert ids(read_samples(data, [fixed, mask], None)) == [[1, 1, 1, 1]]


# ---- Arrays of other types


ONES = np.array([[1, 0, 1]])


def taken(folder: Path, array: np.ndarray, dtype: str) -> Samples:
    wanted = ModelInput("x", np.dtype(dtype), (None, None))
    return read_samples(arrays(folder, x=array), [wanted], None)


@pytest.mark.parametrize("wanted", ["int64", "int32", "uint8", "bool", "float32"])
@pytest.mark.parametrize("given", ["int64", "int32", "uint8", "bool", ">i8", "uint64"])
def test_whole_numbers_take_the_models_type_where_none_changes(tmp_path, given, wanted):
    samples = taken(tmp_path, ONES.astype(given), wanted)
    (array,) = samples.arrays[0].values()
    assert (array.dtype, array.tolist(), samples.notes) == (np.dtype(wanted), ONES.tolist(), [])


@pytest.mark.parametrize(
    ("array", "wanted", "number"),
    [
        (ONES * 2**31, "int32", 2**31),
        (ONES - 2**31 - 1, "int32", -(2**31) - 1),
        (ONES.astype(np.uint64) + np.uint64(2**63), "int64", 2**63),
        (-ONES, "uint64", -1),
        (2 * ONES, "bool", 2),
    ],
)
def test_whole_numbers_that_would_change_are_refused(tmp_path, array, wanted, number):
    with pytest.raises(MemoError, match=f"holds {number}, which is no {wanted}; the model wants x {wanted}"):
        taken(tmp_path, array, wanted)


@pytest.mark.parametrize("given", ["float64", "float32", "complex64", "U3", "M8[s]"])
@pytest.mark.parametrize("wanted", ["int64", "bool"])
def test_what_is_no_whole_number_is_refused_with_what_to_do(tmp_path, given, wanted):
    with pytest.raises(
        MemoError, match=rf"wants x {wanted}\[.*: convert it, as in array\.astype\('{wanted}'\)"
    ):
        taken(tmp_path, ONES.astype(given), wanted)


@pytest.mark.parametrize("given", ["float64", ">f8"])
def test_floats_are_rounded_and_that_is_said(tmp_path, given):
    samples = taken(tmp_path, np.array([[0.1, np.nan, -np.inf]], given), "float32")
    assert samples.notes == ["'x' was rounded from float64 to the model's float32"]
    np.testing.assert_array_equal(samples.arrays[0]["x"], np.float32([[0.1, np.nan, -np.inf]]))
    assert taken(tmp_path, np.array([[0.5, np.nan, np.inf]], given), "float32").notes == []
    assert taken(tmp_path, np.array([[0.1]], np.float16), "float32").notes == []


@pytest.mark.parametrize(("number", "wanted"), [(1e39, "float32"), (70_000, "float16")])
def test_floats_that_would_become_infinite_are_refused(tmp_path, number, wanted):
    with pytest.raises(MemoError, match=f"holds numbers too large for {wanted}"):
        taken(tmp_path, np.array([[number, np.inf]]), wanted)


def test_arrays_in_another_order_of_memory_hold_the_same_rows(tmp_path):
    samples = taken(tmp_path, np.asfortranarray(np.arange(6).reshape(2, 3)), "int64")
    assert [a["x"].tolist() for a in samples.arrays] == [[[0, 1, 2]], [[3, 4, 5]]]
    assert all(a["x"].flags.c_contiguous for a in samples.arrays)


def test_arrays_that_the_model_does_not_take_are_named(tmp_path):
    others = {name: np.zeros(1) for name in "abcde"}
    assert read_samples(arrays(tmp_path, x=ONES, labels=ONES), [replace(IDS, name="x")], None).notes == [
        "not read, since the model has no such inputs: 'labels'"
    ]
    assert read_samples(arrays(tmp_path, x=ONES, **others), [replace(IDS, name="x")], None).notes == [
        "not read, since the model has no such inputs: 'a', 'b', 'c' and 2 more"
    ]


# ---- Misfits


def refused(path: Path, because: str, inputs: Sequence[ModelInput] = (IDS, MASK), tokenizer=None) -> None:
    with pytest.raises(MemoError, match=because) as caught:
        read_samples(path, inputs, tokenizer)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path):
    refused(tmp_path / "none.txt", "is not a file: name your inputs")


def test_a_file_of_another_kind(tmp_path):
    refused(text(tmp_path, "a", "data.xml"), "ends in '.xml': inputs come as .txt, .log, .* or .npz")
    refused(text(tmp_path, "a", "data"), "has no suffix: inputs come as .txt, .log, .* or .npz")
    refused(text(tmp_path, "a", "data.foo.gz"), "ends in '.foo.gz': inputs")
    refused(text(tmp_path, "a", "data.gz"), "ends in '.gz': inputs come as .txt, .log, .* or .npz")


@pytest.mark.parametrize("content", ["", "\n \n"])
@pytest.mark.parametrize("name", ["data.txt", "data.jsonl"])
def test_empty_text(tmp_path, tokenizer, name, content):
    refused(text(tmp_path, content, name), "holds no input that can be used", tokenizer=tokenizer)


def test_arrays_without_a_sample(tmp_path):
    nothing = np.zeros((0, 4), np.int64)
    refused(arrays(tmp_path, input_ids=nothing, attention_mask=nothing), "holds no input that can be used")


def test_text_without_a_tokenizer(tmp_path):
    refused(
        text(tmp_path, "a"),
        "is text, and no tokenizer.json stands beside the model: name it with --tokenizer",
    )


def test_a_tokenizer_that_is_none(tmp_path):
    data = text(tmp_path, "a")
    refused(data, "is not a tokenizer", tokenizer=text(tmp_path, '{"a": 1}', "tokenizer.json"))
    refused(data, "is not a file: name the model's tokenizer.json", tokenizer=tmp_path / "none.json")
    refused(data, "is not a file: name the model's tokenizer.json", tokenizer=tmp_path)


def test_text_for_a_model_that_takes_pictures(tmp_path, tokenizer):
    refused(text(tmp_path, "a"), "text cannot serve the model's input 'pixel_values", [PIXELS], tokenizer)


def test_text_that_is_not_utf8(tmp_path, tokenizer):
    (tmp_path / "data.txt").write_bytes(b"ab\xff")
    refused(tmp_path / "data.txt", r"is not UTF-8 text \(line 1, byte 2\)", tokenizer=tokenizer)


@pytest.mark.parametrize(
    ("content", "because"),
    [
        ("a\nb\n".encode("utf-16"), "is UTF-16 text: convert it to UTF-8, as with iconv"),
        ("a\nb\n".encode("utf-16-be"), "holds bytes of zero, as in line 1"),
        (b"a\nb\0\n", "holds bytes of zero, as in line 2"),
        (gzip.compress(b"a\nb\n", mtime=0), r"is compressed \(gzip\): unpack it first"),
        (b"PK\x03\x04...", "is a ZIP archive: unpack it first"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a pointer of Git LFS, not the file itself"),
    ],
)
@pytest.mark.parametrize("name", ["data.txt", "data.jsonl"])
def test_files_that_are_not_what_their_names_say(tmp_path, tokenizer, name, content, because):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, because, tokenizer=tokenizer)


def test_an_array_file_that_is_text(tmp_path):
    refused(text(tmp_path, "1,2,3", "data.npz"), "is not a readable .npz file .*: write it with numpy.savez")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("x.xlsx", "write its texts as .csv, and name their column"),
        ("x.ORC", "write its texts as .csv, and name their column"),
        ("x.png", "name the folder that holds the images"),
        ("x.json", "write one object a line, with the text in 'text', as .jsonl"),
        ("x.txt.bz2", "unpack it first"),
        ("x.zip", "unpack it first"),
        ("x.npy", "with numpy.savez, as .npz"),
        ("x.safetensors", "with numpy.savez, as .npz"),
    ],
)
def test_other_kinds_of_files_are_refused_with_what_to_make_of_them(tmp_path, name, advice):
    refused(text(tmp_path, "a", name), f"inputs come as .txt, .log, .* or as a folder of images; .*{advice}")


def test_a_folder_and_a_tokenizer_in_place_of_inputs(tmp_path, tokenizer):
    refused(
        tmp_path, "is a folder, and no preprocessor_config.json .* stands beside the model: name it .*; or"
    )
    refused(tokenizer, "is a tokenizer: name it with --tokenizer, and your inputs .* with --data")


def test_inputs_that_are_all_left_out_say_why(tmp_path):
    left = np.array([[0, 1], [0, 1]])
    data = arrays(tmp_path, input_ids=left, attention_mask=left)
    refused(data, r"holds no input that can be used \(2 inputs left out: .* is no right padding")


@pytest.mark.parametrize(
    ("line", "because"),
    [
        ("{", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ('"b"', "line 2 has no field 'text'"),
        ('{"content": "b"}', "line 2 has no field 'text'"),
        ('{"text": 5}', "line 2 has no field 'text' that is a string"),
        ('{"text": "\\ud800"}', "line 2 escapes half a character"),
    ],
)
def test_a_jsonl_line_that_is_not_as_it_should_be(tmp_path, tokenizer, line, because):
    data = text(tmp_path, f'{{"text": "a"}}\n{line}\n', "data.jsonl")
    refused(data, because, tokenizer=tokenizer)


def test_an_array_that_is_missing(tmp_path):
    data = arrays(tmp_path, input_ids=np.ones((1, 4), np.int64))
    refused(
        data, r"no array 'attention_mask' \(it holds: input_ids\); the model wants attention_mask int64\["
    )


@pytest.mark.parametrize("shape", [(4,), (1, 4, 1), ()])
def test_an_array_of_another_rank(tmp_path, shape):
    refused(arrays(tmp_path, input_ids=np.ones(shape, np.int64)), "has shape .* the model wants", [IDS])


def test_an_array_of_another_size(tmp_path):
    data = arrays(tmp_path, pixel_values=np.zeros((2, 3, 16, 15), np.float32))
    refused(
        data, r"has shape \[2, 3, 16, 15\]; the model wants pixel_values float32\[\?, 3, 16, 16\]", [PIXELS]
    )


def test_numbers_beyond_the_models_embedding(tmp_path):
    """What the model never sees, since it is padding or left out, may be anything."""
    mask = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1]])
    held = np.array([[0, -5, 4], [1, 1, 99], [99, 1, 1]])
    known = replace(IDS, rows=5)
    data = arrays(tmp_path, input_ids=held, attention_mask=mask)
    assert ids(read_samples(data, [known, MASK], None)) == [[0, -5, 4], [1, 1]]
    refused(
        data,
        r"input 1 in .* holds 4 in 'input_ids', which the model looks up in 4 rows",
        [replace(IDS, rows=4), MASK],
    )


def test_arrays_that_hold_different_numbers_of_samples(tmp_path):
    data = arrays(tmp_path, input_ids=np.ones((2, 4), np.int64), attention_mask=np.ones((3, 4), np.int64))
    refused(data, "different numbers of samples: {'input_ids': 2, 'attention_mask': 3}")


def test_arrays_of_python_objects(tmp_path):
    refused(arrays(tmp_path, input_ids=np.array([None])), "not a readable .npz file of plain arrays")


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + bytes(40)])
def test_a_file_that_is_no_npz(tmp_path, content):
    (tmp_path / "data.npz").write_bytes(content)
    refused(tmp_path / "data.npz", "not a readable .npz file")


def test_a_single_array_under_the_name_of_an_npz(tmp_path):
    np.save(tmp_path / "data.npy", np.ones((2, 2), np.int64))
    (tmp_path / "data.npy").rename(tmp_path / "data.npz")
    refused(tmp_path / "data.npz", "not a readable .npz file")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_npz(tmp_path, save):
    save(tmp_path / "data.npz", input_ids=np.random.default_rng(0).integers(0, 64, (50, 30)))
    content = bytearray((tmp_path / "data.npz").read_bytes())
    for place in range(200, len(content) - 200, len(content) // 20):
        content[place] ^= 0xFF
        (tmp_path / "data.npz").write_bytes(content)
        content[place] ^= 0xFF
        refused(tmp_path / "data.npz", "not a readable .npz file", [IDS])
