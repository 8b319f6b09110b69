"""The order of classes in a row of logits, which decides the rows that are right.

Order is value descending, then class ascending, with -0 equal to +0. A row is right where its label
attains the maximum; the label then comes first, before other classes of that value.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from logitbank.stores.layout import index_dtype


def top_classes(logits: NDArray[np.float32], target: NDArray[np.int32], count: int) -> NDArray[Any]:
    """Return the `count` largest classes of each row in the teacher's own order.

    Args:
        logits: (B, C) finite float32.
        target: (B,) labels.
        count: K, at most C.

    Returns:
        (B, K) uint8 or uint16.

    >>> top_classes(np.float32([[3, 3, 1, 0], [1, 4, 4, 0]]), np.int32([2, 2]), 3).tolist()
    [[0, 1, 2], [2, 1, 0]]
    """
    out = np.empty((len(logits), count), index_dtype(logits.shape[1]))
    _top_rows(np.ascontiguousarray(logits), target, out, np.empty(count, np.float32))
    return out


def label_ranks(top: NDArray[Any], target: NDArray[np.int32]) -> NDArray[np.int64]:
    """Count the rows by the rank of their label.

    Returns:
        (K + 1,) counts: of the ranks 0 (right) to K - 1, then of the labels that `top` omits.
    """
    hits = top == target[:, None].astype(top.dtype)
    ranks = np.where(hits.any(axis=1), hits.argmax(axis=1), top.shape[1])
    return np.bincount(ranks, minlength=top.shape[1] + 1)


@numba.njit(cache=True, nogil=True)
def _top_rows(logits, target, out, values):  # type: ignore[no-untyped-def]
    rows, classes = logits.shape
    count = out.shape[1]
    for row in range(rows):
        size = 0
        for c in range(classes):
            value = logits[row, c]
            if size == count and not value > values[count - 1]:
                continue
            place = min(size, count - 1)
            while place > 0 and values[place - 1] < value:
                values[place] = values[place - 1]
                out[row, place] = out[row, place - 1]
                place -= 1
            values[place] = value
            out[row, place] = c
            size = min(size + 1, count)
        label = target[row]
        if logits[row, label] == values[0]:
            place = 0
            while place < count - 1 and out[row, place] != label:
                place += 1
            while place > 0:
                out[row, place] = out[row, place - 1]
                place -= 1
            out[row, 0] = label
