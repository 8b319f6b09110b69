"""The row kernels of sort and swap: compiled once, cached on disk, free of the interpreter's lock.

Codes are compared as integers that keep their order and moved bit by bit, so that one kernel serves
float32, float16 and uint8. A right row costs one look at its codes, to refuse NaN; a wrong one
besides only the classes above its label. Nothing here is parallel in numba's own way: its threads
kill a forked child under one layer and abort under another when two threads call at once. Several
threads take a range of rows each instead (`Correction`).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from logitbank.stores.corrections.bad_rows import BadRowError

_TILE_BYTES = 2**16
_FEW = 48
_SORT, _SWAP = range(2)
_GOOD, _NOT_A_NUMBER, _NO_SUCH_CLASS, _NO_SUCH_LABEL = range(4)
_CAUSES = {
    _NOT_A_NUMBER: "has a NaN among its logits",
    _NO_SUCH_CLASS: "names a class in `top` that there is not",
    _NO_SUCH_LABEL: "has a label that is no class",
}
# Bits of infinity and of all but the sign. Every uint8 is a number, and its own key.
_BITS: dict[np.dtype[Any], tuple[np.integer[Any], np.integer[Any]]] = {
    np.dtype(np.float16): (np.int16(0x7C00), np.int16(0x7FFF)),
    np.dtype(np.float32): (np.int32(0x7F800000), np.int32(0x7FFFFFFF)),
    np.dtype(np.uint8): (np.uint8(0xFF), np.uint8(0xFF)),
}


def swap_rows(
    codes: NDArray[Any],
    top: NDArray[Any],
    target: NDArray[np.int32],
    out: NDArray[Any],
    out_top: NDArray[Any],
) -> None:
    """Exchange the values of the label and of the row's largest class (SLD, arXiv 2504.20108).

    Args:
        codes: (B, C) float32, float16 or uint8.
        top: (B, K) uint8 or uint16, the largest classes in their true order.
        target: (B,) labels.
        out: (B, C) of the same dtype, `codes` itself or other memory.
        out_top: (B, K) likewise for `top`.

    Raises:
        BadRowError: a row has a NaN, or names a class that there is not; the rows before it may
            have been corrected.
    """
    _run(_SWAP, codes, top, target, out, out_top)


def sort_rows(
    codes: NDArray[Any],
    top: NDArray[Any],
    target: NDArray[np.int32],
    out: NDArray[Any],
    out_top: NDArray[Any],
) -> None:
    """Give the label the largest value; the classes above it move down one (arXiv 2508.16544).

    The order of the classes above the label is `top`, then code descending, class ascending.
    Arguments and errors are those of `swap_rows`.
    """
    _run(_SORT, codes, top, target, out, out_top)


def _run(
    rule: int,
    codes: NDArray[Any],
    top: NDArray[Any],
    target: NDArray[np.int32],
    out: NDArray[Any],
    out_top: NDArray[Any],
) -> None:
    infinity, magnitude = _BITS[codes.dtype]
    bits = magnitude.dtype
    rest, known = np.empty(codes.shape[1], np.int64), np.zeros(codes.shape[1], np.bool_)
    copies = out.ctypes.data != codes.ctypes.data
    row, problem = _correct_rows(
        codes.view(bits), top, target, out.view(bits), out_top, rest, known, rule,
        copies, infinity, magnitude,
    )  # fmt: skip
    if problem != _GOOD:
        raise BadRowError(int(row), _CAUSES[int(problem)])


@numba.njit(cache=True, nogil=True, inline="always")
def _key(bits, magnitude):  # type: ignore[no-untyped-def]
    """Map a code's bits to an integer of the same order, with -0 equal to +0."""
    wide = np.int64(bits)
    return wide if wide >= 0 else -(wide & magnitude)


@numba.njit(cache=True, nogil=True)
def _has_nan(codes, infinity, magnitude):  # type: ignore[no-untyped-def]
    found = False
    # By index: a loop over the codes themselves is not vectorised, and four times slower.
    for place in range(codes.shape[0]):
        found |= (codes[place] & magnitude) > infinity
    return found


@numba.njit(cache=True, nogil=True)
def _copy_has_nan(codes, out, infinity, magnitude):  # type: ignore[no-untyped-def]
    found = False
    for place in range(codes.shape[0]):
        code = codes[place]
        out[place] = code
        found |= (code & magnitude) > infinity
    return found


@numba.njit(cache=True, nogil=True)
def _copy(old, new, first, stop):  # type: ignore[no-untyped-def]
    for place in range(first, stop):
        new[place] = old[place]


@numba.njit(cache=True, nogil=True)
def _begin(codes, out, first, stop, copies, infinity, magnitude):  # type: ignore[no-untyped-def]
    """Copy some rows where they are to be copied; give the first that has a NaN, or -1.

    Rows are looked at as one run of codes: at 100 classes a row of its own costs as much again for
    the codes that don't fill a vector.
    """
    classes = codes.shape[1]
    old = codes.reshape(-1)[first * classes : stop * classes]
    if copies:
        new = out.reshape(-1)[first * classes : stop * classes]
        found = _copy_has_nan(old, new, infinity, magnitude)
    else:
        found = _has_nan(old, infinity, magnitude)
    if found:
        for row in range(first, stop):
            if _has_nan(codes[row], infinity, magnitude):
                return row
    return -1


@numba.njit(cache=True, nogil=True)
def _unknown_class(top, row, classes):  # type: ignore[no-untyped-def]
    found = False
    for rank in range(top.shape[1]):
        found |= top[row, rank] >= classes
    return found


@numba.njit(cache=True, nogil=True)
def _place(top, row, label):  # type: ignore[no-untyped-def]
    for place in range(top.shape[1]):
        if top[row, place] == label:
            return place
    return -1


@numba.njit(cache=True, nogil=True)
def _swap_row(codes, top, row, label):  # type: ignore[no-untyped-def]
    largest = top[row, 0]
    place = _place(top, row, label)
    if place >= 0:
        top[row, place] = largest
    top[row, 0] = label
    held = codes[row, label]
    codes[row, label] = codes[row, largest]
    codes[row, largest] = held


@numba.njit(cache=True, nogil=True)
def _sort_row(codes, top, row, label, rest, known, magnitude):  # type: ignore[no-untyped-def]
    place = _place(top, row, label)
    largest, last = codes[row, top[row, 0]], place
    if place < 0:
        count = _rest_above(codes, top, row, label, rest, known, magnitude)
        last = top.shape[1] - 1
        own = codes[row, label]
    for rank in range(last):
        codes[row, top[row, rank]] = codes[row, top[row, rank + 1]]
    if place < 0:
        above = np.int64(top[row, last])
        for at in range(count):
            codes[row, above] = codes[row, rest[at]]
            above = rest[at]
        codes[row, above] = own
    codes[row, label] = largest
    for rank in range(last, 0, -1):
        top[row, rank] = top[row, rank - 1]
    top[row, 0] = label


@numba.njit(cache=True, nogil=True)
def _rest_above(codes, top, row, label, rest, known, magnitude):  # type: ignore[no-untyped-def]
    """Write to `rest` the classes between `top` and the label, in order; give their number.

    `known` is C flags, all of them off before and after.
    """
    for rank in range(top.shape[1]):
        known[top[row, rank]] = True
    own = _key(codes[row, label], magnitude)
    count = 0
    for c in range(codes.shape[1]):
        key = _key(codes[row, c], magnitude)
        if key >= own and (key > own or c < label) and not known[c]:
            # Descending keys, then ascending classes, as one ascending integer.
            rest[count] = -key * 65536 + c
            count += 1
    for rank in range(top.shape[1]):
        known[top[row, rank]] = False
    _ascending(rest, count)
    for at in range(count):
        rest[at] &= 65535
    return count


@numba.njit(cache=True, nogil=True)
def _ascending(values, count):  # type: ignore[no-untyped-def]
    """Sort the first values: a few by insertion, which costs less than a call of the library's."""
    if count > _FEW:
        values[:count].sort()
        return
    for at in range(1, count):
        value = values[at]
        place = at
        while place > 0 and values[place - 1] > value:
            values[place] = values[place - 1]
            place -= 1
        values[place] = value


@numba.njit(cache=True, nogil=True)
def _correct_rows(codes, top, target, out, out_top, rest, known, rule, copies, infinity, magnitude):  # type: ignore[no-untyped-def]
    """Go through rows a tile at a time, so that what was looked at is in cache when it changes."""
    rows, classes = codes.shape
    tile = max(1, _TILE_BYTES // (classes * codes.itemsize))
    for first in range(0, rows, tile):
        stop = min(first + tile, rows)
        bad = _begin(codes, out, first, stop, copies, infinity, magnitude)
        if bad >= 0:
            return bad, _NOT_A_NUMBER
        if copies:
            _copy(top.reshape(-1), out_top.reshape(-1), first * top.shape[1], stop * top.shape[1])
        for row in range(first, stop):
            label = target[row]
            if out_top[row, 0] == label and label < classes:
                continue
            if not 0 <= label < classes:
                return row, _NO_SUCH_LABEL
            if _unknown_class(out_top, row, classes):
                return row, _NO_SUCH_CLASS
            if rule == _SORT:
                _sort_row(out, out_top, row, label, rest, known, magnitude)
            else:
                _swap_row(out, out_top, row, label)
    return -1, _GOOD
