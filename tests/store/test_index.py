"""The Annoy index: what the package reads, and the same bytes each time."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_memo.store.index import INDEX_TREES, build_index, largest_group


def test_the_largest_group_is_that_of_the_commonest_length():
    assert largest_group(np.array([3, 5, 5, 5, 9, 9])) == 3


@pytest.fixture
def annoy():
    return pytest.importorskip("annoy", reason="annoy is not installed")


def test_the_index_is_what_the_annoy_package_reads(annoy, tmp_path):
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((300, 8), np.float32)
    lengths = np.repeat([5, 6, 7], 100)
    content = build_index(keys, lengths, tmp_path / "building")
    assert list(tmp_path.iterdir()) == []
    content.tofile(tmp_path / "index")
    index = annoy.AnnoyIndex(9, "euclidean")
    index.load(str(tmp_path / "index"))
    assert index.get_n_items() == 300
    assert index.get_n_trees() == INDEX_TREES
    np.testing.assert_allclose(index.get_item_vector(150), [*keys[150], 16.0 * 6])
    assert index.get_nns_by_vector([*keys[42], 16.0 * 5], 1) == [42]


def test_building_an_index_twice_gives_the_same_bytes(annoy, tmp_path):
    keys = np.random.default_rng(0).standard_normal((200, 8), np.float32)
    first, second = (build_index(keys, [9] * 200, tmp_path / "index") for _ in range(2))
    assert first.tobytes() == second.tobytes()
