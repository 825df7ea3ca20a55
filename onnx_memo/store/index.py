"""The Annoy index of the entries' keys: where it pays, and how it is built."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

# The kernel searches exactly up to this many entries of one length; only beyond it does the
# index pay (`docs/benchmarks.md`), so only then is it built.
EXACT_SEARCH = 2048
INDEX_TREES = 10
INDEX_LENGTH_SCALE = 16.0
MOST_PER_KEY = 3  # bytes of the index, at most, relative to those of the keys


def largest_group(lengths: npt.NDArray[np.int64]) -> int:
    """How many entries share the commonest length."""
    return int(np.unique(lengths, return_counts=True)[1].max(initial=0))


def annoy_available() -> bool:
    """Whether the Annoy package is installed."""
    try:
        import annoy  # noqa: F401
    except ImportError:
        return False
    return True


def build_index(keys: npt.NDArray[np.float32], lengths: Iterable[int], path: Path) -> npt.NDArray[np.uint8]:
    """The bytes of an Annoy index of the keys [N, k], each followed by its scaled length.

    `path` is where Annoy writes; the file is removed again. Deterministic: a fixed seed, one thread.
    """
    from annoy import AnnoyIndex

    index = AnnoyIndex(keys.shape[1] + 1, "euclidean")
    index.set_seed(1)
    for entry, (key, length) in enumerate(zip(keys, lengths, strict=True)):
        index.add_item(entry, [*key.tolist(), INDEX_LENGTH_SCALE * length])
    index.build(INDEX_TREES, n_jobs=1)
    index.save(str(path))
    index.unload()
    content = np.fromfile(path, np.uint8)
    path.unlink()
    return content
