"""The memo data: what is written comes back, from aligned places."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnx_memo.store.data import (
    DATA_NAME,
    StoredTensor,
    memo_data,
    offsets_of,
    take_weights,
    write_computed,
    write_store,
)

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
        size = memo_data(Path(folder)).stat().st_size
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
    content = memo_data(tmp_path).read_bytes()
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


def test_the_name_is_that_of_the_content(tmp_path):
    """So another content never takes the place of one that somebody may have mapped."""
    one, other = (StoredTensor.of("t", np.full(3, number, np.float32)) for number in (1, 2))
    names = []
    for stored in (one, other, one):
        names.append(write_store(tmp_path, [stored])["t"].location)
        written = tmp_path / names[-1]
        named = DATA_NAME.fullmatch(written.name)
        assert named is not None
        assert named[1] == "memo"
        assert named[2] == hashlib.sha256(written.read_bytes()).hexdigest()[:16]
    assert names[0] == names[2] != names[1]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(set(names))


def test_weights_are_named_by_content_wherever_they_lay(tmp_path):
    """Two files of one content become one; what subgraphs hold is found as well."""
    (tmp_path / "from" / "deep").mkdir(parents=True)
    (tmp_path / "to").mkdir()
    arrays = {"a.bin": [1, 2], "deep/b.bin": [3, 4], "deep/c.bin": [1, 2]}
    values = []
    for name, numbers in arrays.items():
        np.asarray(numbers, np.float32).tofile(tmp_path / "from" / name)
        tensor = ir.ExternalTensor(
            *(name, 4, 4, ir.DataType.FLOAT), shape=ir.Shape([1]), name=name, base_dir=tmp_path / "from"
        )
        values.append(ir.Value(name=name, const_value=tensor, shape=tensor.shape, type=ir.TensorType(1)))
    outer, inner = (
        ir.Graph([], [], nodes=[], initializers=some, name="g") for some in (values[:2], values[2:])
    )
    condition = ir.val("c", ir.DataType.BOOL, [])
    outer.inputs.append(condition)
    outer.append(ir.node("If", [condition], {"then_branch": inner, "else_branch": inner.clone()}))
    take_weights(ir.Model(outer, ir_version=10), tmp_path / "from", tmp_path / "to")
    assert len(list((tmp_path / "to").iterdir())) == 2
    taken = [value.const_value for value in values]
    assert [tensor.numpy().tolist() for tensor in taken] == [[2], [4], [2]]
    for tensor in taken:
        assert Path(tensor.base_dir) == tmp_path / "to"
        assert DATA_NAME.fullmatch(tensor.location)[1] == "weights"
    assert taken[0].location == taken[2].location


def test_weights_that_are_computed_are_written_to_a_file(tmp_path):
    weight = np.arange(2048, dtype=np.float32).reshape(32, 64)
    asked = []

    def compute():
        asked.append(1)
        return ir.tensor(weight)

    def lazy(rows: int):
        return ir.LazyTensor(compute, ir.DataType.FLOAT, ir.Shape([rows, 64]), name="w")

    large, small = (
        ir.Value(name=name, const_value=lazy(rows), shape=ir.Shape([rows, 64]))
        for name, rows in (("w", 32), ("s", 1))
    )
    graph = ir.Graph([], [], nodes=[], initializers=[large, small], opset_imports={"": 17})
    model = ir.Model(graph, ir_version=10)
    assert not asked
    write_computed(model, tmp_path)
    (file,) = tmp_path.iterdir()
    written = model.graph.initializers["w"].const_value
    assert (written.location, len(asked)) == (file.name, 1)
    np.testing.assert_array_equal(written.numpy(), weight)
    assert isinstance(model.graph.initializers["s"].const_value, ir.LazyTensor)


def test_offsets_are_the_sum_of_the_rows_before():
    assert offsets_of(np.array([3, 0, 4, 1])).tolist() == [0, 3, 3, 7]
