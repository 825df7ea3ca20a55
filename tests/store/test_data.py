"""The memo data: what is written comes back, from aligned places."""

from __future__ import annotations

import shutil
import tempfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnx_memo import MemoError
from onnx_memo.store import data as store

DTYPES = st.sampled_from([np.float16, np.float32, np.int64, np.uint8])
ARRAYS = DTYPES.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=40))
)


@given(st.lists(ARRAYS, max_size=5))
@settings(deadline=None, max_examples=50)
def test_what_is_written_comes_back(arrays):
    with tempfile.TemporaryDirectory() as folder:
        tensors = [store.from_array(f"t{i}", array) for i, array in enumerate(arrays)]
        external = store.write_store(Path(folder), tensors)
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
        tensors = [store.from_array(f"t{i}", array) for i, array in enumerate(arrays)]
        external = list(store.write_store(Path(folder), tensors).values())
        size = (Path(folder) / store.FILE).stat().st_size
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
        store.from_array("halves", np.array([1, -2], np.float16)),
        store.from_array("numbers", np.array([258], np.int64)),
    ]
    store.write_store(tmp_path, tensors)
    content = (tmp_path / store.FILE).read_bytes()
    assert content[:4] == b"\x00\x3c\x00\xc0"
    assert content[4096:4104] == b"\x02\x01\x00\x00\x00\x00\x00\x00"
    assert not any(content[4:4096])


def test_an_array_that_is_not_contiguous_is_written_in_its_own_order(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    external = store.write_store(tmp_path, [store.from_array("t", array)])
    np.testing.assert_array_equal(external["t"].numpy(), array)


def test_a_tensor_may_come_from_a_file(tmp_path):
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    array.tofile(tmp_path / "part")
    tensor = store.from_file("t", np.float16, (2, 3), tmp_path / "part")
    external = store.write_store(tmp_path, [tensor])
    np.testing.assert_array_equal(external["t"].numpy(), array)
    assert external["t"].dtype == ir.DataType.FLOAT16


def test_a_file_of_another_size_is_a_defect_of_ours(tmp_path):
    (tmp_path / "part").write_bytes(bytes(11))
    with pytest.raises(AssertionError, match="does not hold"):
        store.from_file("t", np.float16, (2, 3), tmp_path / "part")


def test_an_existing_file_is_never_overwritten(tmp_path):
    store.write_store(tmp_path, [])
    with pytest.raises(FileExistsError):
        store.write_store(tmp_path, [])


def test_a_disk_without_room_is_refused(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(0, 0, 10 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    store.check_room(tmp_path, 10 * 2**20)
    with pytest.raises(MemoError, match="has 10 MiB free and 20 MiB are needed: make room"):
        store.check_room(tmp_path, 20 * 2**20)


def test_offsets_are_the_sum_of_the_rows_before():
    assert store.offsets_of(np.array([3, 0, 4, 1])).tolist() == [0, 3, 3, 7]


def test_the_largest_group_is_that_of_the_commonest_length():
    assert store.largest_group(np.array([3, 5, 5, 5, 9, 9])) == 3


# ---- The index


@pytest.fixture
def annoy():
    return pytest.importorskip("annoy", reason="annoy is not installed")


def test_the_index_is_what_the_annoy_package_reads(annoy, tmp_path):
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((300, 8), np.float32)
    lengths = np.repeat([5, 6, 7], 100)
    content = store.build_index(keys, lengths, tmp_path / "building")
    assert list(tmp_path.iterdir()) == []
    content.tofile(tmp_path / "index")
    index = annoy.AnnoyIndex(9, "euclidean")
    index.load(str(tmp_path / "index"))
    assert index.get_n_items() == 300
    assert index.get_n_trees() == store.INDEX_TREES
    np.testing.assert_allclose(index.get_item_vector(150), [*keys[150], 16.0 * 6])
    assert index.get_nns_by_vector([*keys[42], 16.0 * 5], 1) == [42]


def test_building_an_index_twice_gives_the_same_bytes(annoy, tmp_path):
    keys = np.random.default_rng(0).standard_normal((200, 8), np.float32)
    first, second = (store.build_index(keys, [9] * 200, tmp_path / "index") for _ in range(2))
    assert first.tobytes() == second.tobytes()
