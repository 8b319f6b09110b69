"""Corrections of wrong rows, on the codes as they are stored.

Both only move a row's values between classes, and each dense encoding is monotonic within a row, so
correcting codes equals encoding the corrected row, given the true order where codes tie: that is
what `top` holds. Codes are compared as order-preserving integers and moved bit by bit. Only wrong
rows cost anything, and in them only the classes above the label.

sort: arXiv 2508.16544, `sort` of the released KD.py; swap: arXiv 2504.20108, SLD.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from logitbank.stores.errors import unknown_name

RowKernel = Callable[[NDArray[Any], NDArray[Any], NDArray[np.int32]], None]


def swap(codes: NDArray[Any], top: NDArray[Any], target: NDArray[np.int32]) -> None:
    """Exchange the values of the label and of the row's largest class, in place.

    Args:
        codes: (B, C) float32 or float16, finite, C-contiguous.
        top: (B, K) the largest classes in their true order; it is corrected along.
        target: (B,) labels.
    """
    _swap_rows(_as_integers(codes), top, target)


def sort(codes: NDArray[Any], top: NDArray[Any], target: NDArray[np.int32]) -> None:
    """Give the label the largest value; the classes above it each move down one, in place.

    The order of the classes above the label is `top`, then code descending, class ascending.

    Args:
        codes: (B, C) float32 or float16, finite, C-contiguous.
        top: (B, K) the largest classes in their true order; it is corrected along.
        target: (B,) labels.
    """
    integers = _as_integers(codes)
    scratch = np.empty(codes.shape[1], np.int64)
    _sort_rows(integers, top, target, scratch)


CORRECTIONS: dict[str, RowKernel] = {"sort": sort, "swap": swap}


def correction_named(name: str) -> RowKernel:
    """Look a correction up.

    Raises:
        UsageError: there is no correction of that name.
    """
    if name not in CORRECTIONS:
        raise unknown_name("correction", name, CORRECTIONS)
    return CORRECTIONS[name]


def _as_integers(codes: NDArray[Any]) -> NDArray[Any]:
    """View floats as the signed integers of their bits, which keys compare."""
    if not codes.flags.c_contiguous:
        raise ValueError("codes must be C-contiguous")
    return codes.view(np.dtype(f"<i{codes.dtype.itemsize}"))


@numba.njit(cache=True, nogil=True, inline="always")
def _key(bits, magnitude):  # type: ignore[no-untyped-def]
    """Map a float's bits to an integer of the same order, with -0 equal to +0."""
    wide = np.int64(bits)
    return wide if wide >= 0 else -(wide & magnitude)


@numba.njit(cache=True, nogil=True)
def _place(top, row, label):  # type: ignore[no-untyped-def]
    for place in range(top.shape[1]):
        if top[row, place] == label:
            return place
    return -1


@numba.njit(cache=True, nogil=True)
def _swap_rows(codes, top, target):  # type: ignore[no-untyped-def]
    for row in range(codes.shape[0]):
        label, largest = target[row], top[row, 0]
        if largest == label:
            continue
        place = _place(top, row, label)
        if place >= 0:
            top[row, place] = largest
        top[row, 0] = label
        held = codes[row, label]
        codes[row, label] = codes[row, largest]
        codes[row, largest] = held


@numba.njit(cache=True, nogil=True)
def _classes_above(codes, top, row, label, above):  # type: ignore[no-untyped-def]
    """Write to `above` the classes that come before the label, in order; give their number."""
    known = top.shape[1]
    place = _place(top, row, label)
    for rank in range(known if place < 0 else place):
        above[rank] = top[row, rank]
    if place >= 0:
        return place
    magnitude = np.int64((1 << (8 * codes.itemsize - 1)) - 1)
    own = _key(codes[row, label], magnitude)
    count = known
    for c in range(codes.shape[1]):
        key = _key(codes[row, c], magnitude)
        if (key > own or (key == own and c < label)) and _place(top, row, c) < 0:
            # Descending keys, then ascending classes, as one ascending integer.
            above[count] = -key * 65536 + c
            count += 1
    above[known:count].sort()
    for rank in range(known, count):
        above[rank] &= 65535
    return count


@numba.njit(cache=True, nogil=True)
def _sort_rows(codes, top, target, above):  # type: ignore[no-untyped-def]
    known = top.shape[1]
    for row in range(codes.shape[0]):
        label = target[row]
        if top[row, 0] == label:
            continue
        count = _classes_above(codes, top, row, label, above)
        largest = codes[row, above[0]]
        for rank in range(count - 1):
            codes[row, above[rank]] = codes[row, above[rank + 1]]
        codes[row, above[count - 1]] = codes[row, label]
        codes[row, label] = largest
        for rank in range(min(count, known - 1), 0, -1):
            top[row, rank] = top[row, rank - 1]
        top[row, 0] = label
