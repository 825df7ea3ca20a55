"""The memo data: what is written comes back, from aligned places."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnx_memo.store.data import MEMO_DATA, StoredTensor, offsets_of, write_store

DTYPES = st.sampled_from([np.float16, np.float32, np.int64, np.uint8])
ARRAYS = DTYPES.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=40))
)


@given(st.lists(ARRAYS, max_size=5))
@settings(deadline=None, max_examples=50)
def test_what_is_written_comes_back(arrays):
    with tempfile.TemporaryDirectory() as folder:
        tensors = [StoredTensor.of(f"t{i}", array) for i, array in enumerate(arrays)]
        external = write_store(Path(folder), tensors)
        for i, array in enumerate(arrays):
            back = external[f"t{i}"]
            assert back.numpy().shape == array.shape
            assert back.numpy().dtype == array.dtype
            assert back.numpy().tobytes() == array.tobytes()
            back.release()


@given(st.lists(ARRAYS, max_size=5))
@settings(deadline=None, max_examples=20)
def test_tensors_lie_one_after_the_other_at_multiples_of_4096(arrays):
    with tempfile.TemporaryDirectory() as folder:
        tensors = [StoredTensor.of(f"t{i}", array) for i, array in enumerate(arrays)]
        external = list(write_store(Path(folder), tensors).values())
        size = (Path(folder) / MEMO_DATA).stat().st_size
    end = 0
    for tensor, array in zip(external, arrays, strict=True):
        assert tensor.offset == -(-end // 4096) * 4096
        assert tensor.length == array.nbytes
        end = tensor.offset + tensor.length
        assert tensor.offset < size, "even an empty tensor begins inside the file"
    assert end <= size
    assert size % 4096 == 0


def test_the_file_is_little_endian_and_gaps_are_zero(tmp_path):
    tensors = [
        StoredTensor.of("halves", np.array([1, -2], np.float16)),
        StoredTensor.of("numbers", np.array([258], np.int64)),
    ]
    write_store(tmp_path, tensors)
    content = (tmp_path / MEMO_DATA).read_bytes()
    assert content[:4] == b"\x00\x3c\x00\xc0"
    assert content[4096:4104] == b"\x02\x01\x00\x00\x00\x00\x00\x00"
    assert not any(content[4:4096])


def test_an_array_that_is_not_contiguous_is_written_in_its_own_order(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    external = write_store(tmp_path, [StoredTensor.of("t", array)])
    np.testing.assert_array_equal(external["t"].numpy(), array)


def test_a_tensor_may_come_from_a_file(tmp_path):
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    array.tofile(tmp_path / "part")
    tensor = StoredTensor("t", array.dtype, (2, 3), tmp_path / "part")
    external = write_store(tmp_path, [tensor])
    np.testing.assert_array_equal(external["t"].numpy(), array)
    assert external["t"].dtype == ir.DataType.FLOAT16


def test_an_existing_file_is_never_overwritten(tmp_path):
    write_store(tmp_path, [])
    with pytest.raises(FileExistsError):
        write_store(tmp_path, [])


def test_offsets_are_the_sum_of_the_rows_before():
    assert offsets_of(np.array([3, 0, 4, 1])).tolist() == [0, 3, 3, 7]
