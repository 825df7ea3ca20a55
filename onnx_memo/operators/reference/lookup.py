"""MemoLookup: the stored entry nearest to each row of a request."""

from __future__ import annotations

import numpy as np

from onnx_memo.operators.reference.common import Bools, Bytes, Floats, Integers
from onnx_memo.operators.spec import NO_ENTRY


def memo_lookup(
    query: Floats,
    length: Integers,
    keys: Floats,
    lengths: Integers,
    threshold: Floats,
    index: Bytes,
) -> tuple[Integers, Bools]:
    """The nearest entry of each row's own length, or -1; and whether a batch with rows hit throughout.

    Shapes: query [B, k], length [B], keys [k, N], lengths [N], threshold [] or [1]; `index` is not needed
    to be exact. Raises ValueError if they do not fit each other.
    """
    if (
        query.ndim != 2
        or keys.ndim != 2
        or query.shape[1] != keys.shape[0]
        or keys.shape[1:] != lengths.shape
    ):
        raise ValueError(f"query {query.shape}, keys {keys.shape} and lengths {lengths.shape} do not fit")
    entry = np.full(len(query), NO_ENTRY, np.int64)
    for row in range(len(query)):
        comparable = np.flatnonzero(lengths == length[row])
        if length[row] < 0 or not len(comparable):
            continue
        distance = np.sqrt(np.square(keys[:, comparable] - query[row][:, None]).sum(axis=0))
        nearest = int(np.argmin(distance))
        if distance[nearest] <= threshold:  # false for NaN
            entry[row] = comparable[nearest]
    return entry, np.asarray(len(entry) > 0 and bool((entry >= 0).all()))
