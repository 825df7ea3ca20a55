"""Files of tables, sequences and images from anywhere, packed ones too: read, or refused in one line."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_faults import examples
from support_inputs import IDS, TABLES, packed, pair_tokenizer, write_sequences

from onnx_memo.data.given import Data
from onnx_memo.data.readers import read_samples
from onnx_memo.data.samples import ModelInput
from onnx_memo.errors import MemoError

EXAMPLES = examples(short=200, full=1000)
COLUMNS = {"text": ["a b", "c d e", "e"] * 4, "n": ["1", "2", "3"] * 4}


def spoiled(data: st.DataObject, whole: bytes) -> bytes:
    """Some bytes changed, perhaps the end missing."""
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    return bytes(content[: data.draw(st.integers(1, len(content)))] if data.draw(st.booleans()) else content)


def check(data: Data, wanted: ModelInput, tokenizer: Path | None) -> None:
    said = ""
    try:
        assert read_samples(data, [wanted], tokenizer, allow_unknown=True).arrays
    except MemoError as error:
        said = str(error) or "\n"
    assert "\n" not in said.replace("\\n", "")


def whole_file(folder: Path, kind: str) -> bytes:
    """An undamaged file of a kind, as `.csv` or `.csv.gz`."""
    own, packing = kind[: kind.rindex(".")] or kind, kind[kind.rindex(".") :]
    path = folder / f"whole{own}"
    (TABLES | {".fasta": write_sequences})[own](path, COLUMNS)
    return packed(path, packing if own != kind else "").read_bytes()


@pytest.mark.faults
@pytest.mark.parametrize("kind", [*TABLES, ".fasta", ".csv.gz", ".csv.zst", ".parquet.gz"])
@EXAMPLES
@given(data=st.data())
def test_spoiled_files(tmp_path_factory, kind, data):
    folder = tmp_path_factory.mktemp("spoiled")
    path = folder / f"x{kind}"
    path.write_bytes(spoiled(data, whole_file(folder, kind)))
    check(Data(path), IDS, pair_tokenizer(folder / "tokenizer.json"))


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
@EXAMPLES
@given(data=st.data())
def test_spoiled_images(tmp_path_factory, kind, data):
    images = pytest.importorskip("PIL.Image", reason="needs the extra 'data'")
    folder, buffer = tmp_path_factory.mktemp("spoiled"), io.BytesIO()
    pixels = np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3)
    images.fromarray(pixels).save(buffer, kind)
    (folder / "x.png").write_bytes(spoiled(data, buffer.getvalue()))
    (folder / "processor.json").write_text('{"size": {"height": 4, "width": 4}, "resample": 2}')
    wanted = ModelInput("pixel_values", np.dtype(np.float32), (None, 3, 4, 4))
    check(Data(folder, image_processor=folder / "processor.json"), wanted, None)
