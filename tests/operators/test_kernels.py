"""The native kernels, run by ONNX Runtime, against their definition in docs/operators.md."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_node import INF, INVALID, LIBRARY, NAN, integers, run, session

AnnoyIndex = pytest.importorskip("annoy", reason="annoy is not installed").AnnoyIndex
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="the native library is not built")

NO_INDEX = np.zeros(0, np.uint8)


# ---- MemoLookup


def distances(query: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """f64[B, N] from f32[B, k] and f32[k, N]."""
    return np.sqrt(((query[:, :, None].astype(np.float64) - keys[None]) ** 2).sum(axis=1))


def naive_lookup(query, length, keys, lengths, threshold) -> np.ndarray:
    answers = np.full(len(query), -1, np.int64)
    for b, row in enumerate(distances(query, keys)):
        row = np.where(lengths == length[b], row, np.inf)
        if length[b] >= 0 and row.size and row.min() <= threshold and row.min() < np.inf:
            answers[b] = row.argmin()
    return answers


def annoy_index(
    keys: np.ndarray, lengths: np.ndarray, folder: Path, trees: int = 10
) -> tuple[AnnoyIndex, np.ndarray]:
    """The Annoy package's own index of a store, and the bytes of its file."""
    annoy = AnnoyIndex(len(keys) + 1, "euclidean")
    annoy.set_seed(1)
    for entry, length in enumerate(lengths):
        annoy.add_item(entry, [*keys[:, entry], 16.0 * length])
    annoy.build(trees, n_jobs=1)
    annoy.save(str(folder / "index.ann"))
    return annoy, np.fromfile(folder / "index.ann", np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    entries=st.integers(0, 400),
    width=st.integers(1, 70),
    batch=st.integers(0, 5),
    kinds=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_lookup_equals_the_definition(entries, width, batch, kinds, seed):
    rng = np.random.default_rng(seed)
    keys = rng.standard_normal((width, entries), np.float32)
    lengths = np.sort(rng.integers(0, kinds, entries))
    query = rng.standard_normal((batch, width), np.float32)
    length = rng.integers(-1, kinds + 1, batch)
    threshold = np.float32(np.sqrt(2 * width) * rng.uniform(0.5, 1.5))
    expected = naive_lookup(query, length, keys, lengths, threshold)
    assert run("MemoLookup", query, length, keys, lengths, threshold, NO_INDEX).tolist() == expected.tolist()


def test_lookup_takes_the_best_of_annoys_own_candidates(tmp_path):
    rng = np.random.default_rng(0)
    entries, width, batch = 6000, 16, 400
    keys = rng.standard_normal((width, entries), np.float32)
    lengths = np.full(entries, 40)
    annoy, index = annoy_index(keys, lengths, tmp_path, trees=4)
    query = rng.standard_normal((batch, width), np.float32)
    answers = run("MemoLookup", query, np.full(batch, 40), keys, lengths, INF, index)
    expected = [annoy.get_nns_by_vector([*row, 16.0 * 40], 1, search_k=256)[0] for row in query]
    assert answers.tolist() == expected
    # The case is hard enough for the search to matter: Annoy misses some true neighbours here.
    assert expected != naive_lookup(query, np.full(batch, 40), keys, lengths, INF).tolist()


def test_lookup_with_an_index_keeps_to_the_length(tmp_path):
    rng = np.random.default_rng(1)
    keys = rng.standard_normal((8, 9000), np.float32) / 4
    lengths = np.repeat([20, 21, 22], 3000)
    annoy, index = annoy_index(keys, lengths, tmp_path)
    picked = rng.integers(0, 9000, 300)
    query = keys[:, picked].T + np.float32(0.001)
    answers = run("MemoLookup", query, lengths[picked], keys, lengths, np.float32(0.1), index)
    assert answers.tolist() == picked.tolist()
    wrong = run("MemoLookup", query, np.full(300, 23), keys, lengths, INF, index)
    assert set(wrong.tolist()) == {-1}
    for row, length in ((0, 20), (1, 21), (2, 22)):
        near = [
            e
            for e in annoy.get_nns_by_vector([*query[row], 16.0 * length], 256, search_k=256)
            if lengths[e] == length
        ]
        answer = run("MemoLookup", query[row : row + 1], integers(length), keys, lengths, INF, index)
        assert answer.tolist() == near[:1]


def test_lookup_is_exact_up_to_2048_entries_of_a_length(tmp_path):
    rng = np.random.default_rng(2)
    keys = rng.standard_normal((24, 2048 + 500), np.float32)
    lengths = np.repeat([5, 6], [2048, 500])
    _, index = annoy_index(keys, lengths, tmp_path, trees=1)
    query = rng.standard_normal((300, 24), np.float32)
    length = rng.integers(5, 7, 300)
    answers = run("MemoLookup", query, length, keys, lengths, INF, index)
    assert answers.tolist() == naive_lookup(query, length, keys, lengths, INF).tolist()


@pytest.mark.parametrize("entries", [1, 2, 3, 5, 6, 40])
def test_lookup_accepts_annoy_indexes_of_few_entries(entries, tmp_path):
    keys = np.arange(entries, dtype=np.float32)[None]
    lengths = np.full(entries, 3)
    _, index = annoy_index(keys, lengths, tmp_path)
    answers = run("MemoLookup", keys.T.copy(), lengths, keys, lengths, np.float32(0.1), index)
    assert answers.tolist() == list(range(entries))


def test_lookup_accepts_an_annoy_index_of_equal_keys(tmp_path):
    keys = np.ones((4, 3000), np.float32)
    lengths = np.full(3000, 7)
    _, index = annoy_index(keys, lengths, tmp_path)
    answer = run("MemoLookup", keys.T[:1], integers(7), keys, lengths, np.float32(0), index)
    assert 0 <= answer[0] < 3000


@pytest.mark.parametrize(
    ("query", "key", "threshold", "answer"),
    [
        (0, 5, 5, 0),
        (0, 5, 4.99, -1),
        (0, 0, 0, 0),
        (0, 0, -1, -1),
        (NAN, 0, INF, -1),
        (0, NAN, INF, -1),
        (0, 0, NAN, -1),
    ],
)
def test_lookup_at_its_edges(query, key, threshold, answer):
    got = run(
        "MemoLookup",
        np.full((1, 1), query, np.float32),
        integers(4),
        np.full((1, 1), key, np.float32),
        integers(4),
        np.float32(threshold),
        NO_INDEX,
    )
    assert got.tolist() == [answer]


def lookup_inputs() -> dict[str, np.ndarray]:
    return {
        "query": np.zeros((2, 3), np.float32),
        "length": integers(4, 4),
        "keys": np.zeros((3, 5), np.float32),
        "lengths": np.full(5, 4),
        "threshold": np.array(1, np.float32),
        "index": NO_INDEX,
    }


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("query", np.zeros((2, 4), np.float32), "'query' is 4 wide and 'keys' 3"),
        ("length", integers(4), "'query' holds 2 rows and 'length' 1"),
        ("lengths", integers(4, 4), "'keys' holds 5 entries and 'lengths' 2"),
        ("keys", np.zeros((3, 5, 1), np.float32), r"'keys' has shape \[3, 5, 1\]"),
        ("threshold", np.zeros(2, np.float32), r"'threshold' has shape \[2\]"),
        ("index", np.zeros(33, np.uint8), "33 bytes, which is no whole number of nodes of 32 bytes"),
        ("index", np.zeros(160, np.uint8), "5 nodes and 5 entries must be items"),
        ("index", np.zeros(320, np.uint8), "roots of 'index' hold 0 items and the store 5 entries"),
    ],
)
def test_lookup_refuses_and_says_what_it_found(name, array, message):
    with pytest.raises(INVALID, match="MemoLookup: .*" + message):
        run("MemoLookup", *(lookup_inputs() | {name: array}).values())


def test_lookup_refuses_a_damaged_annoy_index(tmp_path):
    rng = np.random.default_rng(3)
    keys = rng.standard_normal((3, 500), np.float32)
    lengths = np.full(500, 4)
    _, index = annoy_index(keys, lengths, tmp_path)
    query = keys.T[:2].copy()
    node = index.size // 32 - 1
    for child in (-1, node, 2**31 - 1):
        damaged = index.copy()
        damaged[node * 32 + 8 : node * 32 + 12] = np.array([child], np.int32).view(np.uint8)
        with pytest.raises(INVALID, match=f"node {node} of 'index' points to {child}"):
            run("MemoLookup", query, integers(4, 4), keys, lengths, INF, damaged)
    with pytest.raises(INVALID, match="roots of 'index' hold"):
        run("MemoLookup", query, integers(4, 4), keys[:, :499].copy(), lengths[:499], INF, index)


def test_lookup_survives_random_damage(tmp_path):
    """Answers are then arbitrary, but the process lives and a hit is as near as it claims."""
    rng = np.random.default_rng(4)
    keys = rng.standard_normal((3, 3000), np.float32)
    lengths = np.full(3000, 4)
    _, index = annoy_index(keys, lengths, tmp_path, trees=2)
    query = rng.standard_normal((3, 3), np.float32)
    near = distances(query, keys)
    for _ in range(200):
        damaged = index.copy()
        places = rng.integers(0, index.size, rng.integers(1, 50))
        damaged[places] = rng.integers(0, 256, places.size, np.uint8)
        try:
            answers = run("MemoLookup", query, np.full(3, 4), keys, lengths, np.float32(0.5), damaged)
        except INVALID:
            continue
        assert all(e == -1 or near[b, e] <= 0.5001 for b, e in enumerate(answers))


def test_one_session_serves_many_threads(tmp_path):
    rng = np.random.default_rng(5)
    keys = rng.standard_normal((8, 5000), np.float32)
    lengths = np.full(5000, 4)
    _, index = annoy_index(keys, lengths, tmp_path)
    feeds = {"query": keys.T[:50].copy(), "length": np.full(50, 4)}
    constants = {"keys": keys, "lengths": lengths, "threshold": np.array(1, np.float32), "index": index}
    shared = session("MemoLookup", feeds, constants, threads=2)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: shared.run(None, feeds)[0].tolist(), range(64)))
    assert answers == [list(range(50))] * 64


# ---- MemoFetch


def naive_fetch(entry, payload, offsets, lengths, padded_length) -> np.ndarray:
    output = np.zeros((len(entry), padded_length, payload.shape[1]), np.float32)
    for b, e in enumerate(entry):
        if e >= 0:
            output[b, : lengths[e]] = payload[offsets[e] : offsets[e] + lengths[e]]
    return output


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), max_size=6),
    width=st.integers(0, 70),
    batch=st.integers(0, 5),
    padding=st.integers(0, 3),
    seed=st.integers(0, 2**31),
)
def test_fetch_equals_the_definition(lengths, width, batch, padding, seed):
    rng = np.random.default_rng(seed)
    lengths = np.array(lengths, np.int64)
    offsets = np.cumsum(lengths) - lengths
    payload = rng.standard_normal((lengths.sum(), width)).astype(np.float16)
    entry = rng.integers(-1, len(lengths), batch)
    padded = int(lengths.max(initial=0)) + padding
    answer = run("MemoFetch", entry, payload, offsets, lengths, integers(padded))
    np.testing.assert_array_equal(answer, naive_fetch(entry, payload, offsets, lengths, padded))


@pytest.mark.parametrize("threads", [1, 2])
def test_fetch_of_a_large_batch(threads):
    rng = np.random.default_rng(0)
    payload = rng.standard_normal((1200, 384)).astype(np.float16)
    inputs = (integers(2, -1, 0, 1), payload, integers(0, 500, 900), integers(500, 400, 300), 512)
    answer = run("MemoFetch", *inputs[:4], integers(512), threads=threads)
    np.testing.assert_array_equal(answer, naive_fetch(*inputs))


def test_fetch_keeps_every_half_exactly():
    """Zeros of both signs, subnormals, infinities and NaN among them."""
    payload = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(256, 256)
    answer = run("MemoFetch", integers(0), payload, integers(0), integers(256), integers(256))
    expected = payload.astype(np.float32)
    np.testing.assert_array_equal(answer[0], expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(answer[0])[numbers], np.signbit(expected)[numbers])


@pytest.mark.parametrize(
    ("entry", "offset", "length", "padded", "message"),
    [
        (1, 0, 2, 4, "entry 1 does not exist, the store holds 1"),
        (-2, 0, 2, 4, "entry -2 does not exist"),
        (0, 0, 5, 4, "entry 0 has 5 tokens and the request is padded to 4"),
        (0, 0, -1, 4, "entry 0 has -1 tokens"),
        (0, 8, 2, 4, "entry 0 owns 2 payload rows from row 8 on, but the payload ends after 9"),
        (0, -1, 2, 4, "from row -1 on"),
        (0, 2**63 - 1, 2, 4, "from row 9223372036854775807 on"),
        (0, 0, 2, -1, "'padded_length' is -1"),
    ],
)
def test_fetch_refuses_and_says_what_it_found(entry, offset, length, padded, message):
    payload = np.zeros((9, 2), np.float16)
    with pytest.raises(INVALID, match="MemoFetch: .*" + message):
        run("MemoFetch", integers(entry), payload, integers(offset), integers(length), integers(padded))


# ---- MemoContext


def naive_context(entry, values, payload, offsets, lengths) -> np.ndarray:
    batch, padded, width = values.shape
    heads = payload.shape[1]
    split = values.reshape(batch, padded, heads, width // heads)
    output = np.zeros_like(split)
    for b, e in enumerate(entry):
        if e >= 0:
            n = lengths[e]
            rows = payload[offsets[e] : offsets[e] + n * n]
            probabilities = rows.reshape(heads, n, n).astype(np.float32)
            output[b, :n] = np.einsum("hij,jhv->ihv", probabilities, split[b, :n])
    return output.reshape(values.shape)


def probabilities(rng: np.random.Generator, heads: int, n: int) -> np.ndarray:
    """f16[n * n, heads], holding [heads, n, n] rows that each sum to one."""
    scores = np.exp(2 * rng.standard_normal((heads, n, n)))
    return (scores / scores.sum(-1, keepdims=True)).astype(np.float16).reshape(n * n, heads)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), max_size=4),
    heads=st.integers(1, 5),
    head_width=st.integers(0, 70),
    batch=st.integers(0, 4),
    padding=st.integers(0, 3),
    seed=st.integers(0, 2**31),
)
def test_context_equals_the_definition(lengths, heads, head_width, batch, padding, seed):
    rng = np.random.default_rng(seed)
    payload = np.concatenate(
        [probabilities(rng, heads, n) for n in lengths] or [np.zeros((0, heads), np.float16)]
    )
    lengths = np.array(lengths, np.int64)
    offsets = np.cumsum(lengths**2) - lengths**2
    entry = rng.integers(-1, len(lengths), batch)
    padded = int(lengths.max(initial=0)) + padding
    values = rng.standard_normal((batch, padded, heads * head_width), np.float32)
    answer = run("MemoContext", entry, values, payload, offsets, lengths)
    np.testing.assert_allclose(answer, naive_context(entry, values, payload, offsets, lengths), atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_context_of_a_long_request(threads):
    rng = np.random.default_rng(0)
    payload = probabilities(rng, 4, 300)
    values = rng.standard_normal((2, 310, 4 * 32), np.float32)
    inputs = (integers(0, -1), values, payload, integers(0), integers(300))
    np.testing.assert_allclose(
        run("MemoContext", *inputs, threads=threads), naive_context(*inputs), atol=1e-5
    )


def test_context_reads_subnormal_probabilities():
    payload = np.full((4, 1), 2.0**-24, np.float16)
    values = np.full((1, 2, 1), 2.0**24, np.float32)
    answer = run("MemoContext", integers(0), values, payload, integers(0), integers(2))
    assert answer.ravel().tolist() == [2, 2]


@pytest.mark.parametrize(
    ("entry", "offset", "length", "heads", "message"),
    [
        (1, 0, 2, 2, "entry 1 does not exist, the store holds 1"),
        (-2, 0, 2, 2, "entry -2 does not exist"),
        (0, 0, 5, 2, "entry 0 has 5 tokens and the request is padded to 4"),
        (0, 6, 2, 2, "entry 0 owns 4 payload rows from row 6 on, but the payload ends after 9"),
        (0, 2**63 - 1, 2, 2, "payload ends after 9"),
        (0, 0, 2, 0, "no heads"),
        (0, 0, 2, 4, "'values' is 6 wide, which 4 heads do not divide"),
    ],
)
def test_context_refuses_and_says_what_it_found(entry, offset, length, heads, message):
    values = np.zeros((1, 4, 6), np.float32)
    payload = np.zeros((9, heads), np.float16)
    with pytest.raises(INVALID, match="MemoContext: .*" + message):
        run("MemoContext", integers(entry), values, payload, integers(offset), integers(length))
