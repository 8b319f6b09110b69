"""The row kernels of sort and swap: compiled once, cached on disk, run without the GIL.

Codes are compared as integers of the same order and moved bit for bit, so that one kernel serves
float32, float16 and uint8. A right row costs one pass over its codes, to refuse NaN; a wrong one
also costs the classes above its label, and no more. Nothing here uses numba's own threads: one of
its threading layers kills a forked child, another aborts when two threads call at once. Instead,
several threads take a range of rows each (`Correction`).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from logitbank.stores.corrections.bad_rows import BadRowError

_TILE_BYTES = 2**16
_RUN = 64
_ONE = np.uint64(1)
# Multiplying a word of 8 flags by it gathers them, as bits, in the word's top byte.
_GATHER, _TOP_BYTE = np.uint64(0x0102040810204080), np.uint64(56)
_SORT, _SWAP, _CHECK = range(3)
_GOOD, _NOT_A_NUMBER, _NO_SUCH_CLASS, _NO_SUCH_LABEL = range(4)
_CAUSES = {
    _NOT_A_NUMBER: "has a NaN among its logits",
    _NO_SUCH_CLASS: "names a class in `top` that does not exist",
    _NO_SUCH_LABEL: "has a label that is not a class",
}
# The bits of infinity, and all bits but the sign. Every uint8 is a number, and its own key.
_BITS: dict[np.dtype[Any], tuple[Any, Any]] = {
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
    *,
    every_row: bool = True,
) -> None:
    """Swap the values of the label and of the row's largest class (SLD, arXiv 2504.20108).

    Args:
        codes: (B, C) float32, float16 or uint8.
        top: (B, K) uint8 or uint16, the largest classes in their true order.
        target: (B,) labels.
        out: (B, C) of the same dtype, `codes` itself or other memory.
        out_top: (B, K) likewise for `top`.
        every_row: whether to look for NaN in right rows too, not only in those that change; rows
            that are copied to other memory are always checked.

    Raises:
        BadRowError: a row has a NaN, or names a class that does not exist; the rows before it may
            have been corrected.
    """
    _run(_SWAP, codes, top, target, out, out_top, every_row)


def sort_rows(
    codes: NDArray[Any],
    top: NDArray[Any],
    target: NDArray[np.int32],
    out: NDArray[Any],
    out_top: NDArray[Any],
    *,
    every_row: bool = True,
) -> None:
    """Give the label the largest value; the classes above it move down one (arXiv 2508.16544).

    The order of the classes above the label is `top`, then code descending, class ascending.
    Arguments and errors are those of `swap_rows`.
    """
    _run(_SORT, codes, top, target, out, out_top, every_row)


def check_rows(codes: NDArray[Any], top: NDArray[Any], target: NDArray[np.int32]) -> None:
    """Check rows as every correction does, changing nothing; arguments and errors as above."""
    _run(_CHECK, codes, top, target, codes, top, True)


def _run(
    rule: int,
    codes: NDArray[Any],
    top: NDArray[Any],
    target: NDArray[np.int32],
    out: NDArray[Any],
    out_top: NDArray[Any],
    every_row: bool,
) -> None:
    infinity, magnitude = _BITS[codes.dtype]
    classes = codes.shape[1]
    packed = np.int32 if codes.itemsize <= 2 else np.int64
    room = classes + classes // _RUN * 2 + 1
    scratch = (
        np.empty(room, packed),
        np.empty(room, packed),
        np.zeros(-(-classes // 64) * 64, np.uint8),
    )
    bits = codes.view(magnitude.dtype)
    new, copies = (bits, False) if out is codes else (out.view(magnitude.dtype), True)
    row, problem = _correct_rows(
        bits, top, target, new, out_top, *scratch, rule, every_row, copies, infinity, magnitude
    )
    if problem != _GOOD:
        raise BadRowError(int(row), _CAUSES[int(problem)])


@intrinsic
def _trailing_zeros(typing_context, word):  # type: ignore[no-untyped-def]
    """Count the zero bits below the lowest bit of a uint64 that is not zero."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), code


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
    """Copy some rows if they are to be copied, and return the first that has a NaN, or -1.

    Rows are checked as one run of codes: row by row, at 100 classes, the codes that don't fill a
    vector would double the cost.
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
def _sort_known(codes, top, row, label, place):  # type: ignore[no-untyped-def]
    """Sort a row whose label has this place in `top`, without reading the rest of the row."""
    largest = codes[row, top[row, 0]]
    for rank in range(place):
        codes[row, top[row, rank]] = codes[row, top[row, rank + 1]]
    codes[row, label] = largest
    for rank in range(place, 0, -1):
        top[row, rank] = top[row, rank - 1]
    top[row, 0] = label


@numba.njit(cache=True, nogil=True)
def _sort_beyond(codes, top, row, label, rest, count):  # type: ignore[no-untyped-def]
    """Sort a row whose label comes after `top` and the first `count` classes of `rest`."""
    own, last = codes[row, label], top.shape[1] - 1
    lowest = np.int64(top[row, last])
    _sort_known(codes, top, row, label, last)
    for at in range(count):
        codes[row, lowest] = codes[row, rest[at]]
        lowest = rest[at]
    codes[row, lowest] = own


@numba.njit(cache=True, nogil=True)
def _rest_above(codes, top, row, label, rest, spare, above, magnitude):  # type: ignore[no-untyped-def]
    """Write the classes between `top` and the label to `rest`, in order, and return their number.

    `rest` and `spare` have room for C integers that hold a key and a class, `above` for C flags,
    padded to whole words of 64. All loops run over slices from 0: with a start that could be
    negative, the compiler doesn't vectorise them.
    """
    codes, own = codes[row], _key(codes[row, label], magnitude)
    # The lower class comes first among equal values.
    _flag_larger(codes[:label], own - 1, above[:label], magnitude)
    _flag_larger(codes[label:], own, above[label:], magnitude)
    for rank in range(top.shape[1]):
        above[top[row, rank]] = 0
    count = _flagged(above, spare)
    _pack(codes, spare[:count], rest[:count], magnitude)
    _sort_packed(rest, spare, count)
    for at in range(count):
        rest[at] &= 65535
    return count


@numba.njit(cache=True, nogil=True)
def _flag_larger(codes, least, above, magnitude):  # type: ignore[no-untyped-def]
    """Flag the codes whose key is larger than `least`, comparing bits at their own width."""
    if least >= 0:
        bound = codes.dtype.type(least)
        for place in range(codes.shape[0]):
            above[place] = codes[place] > bound
    else:
        bound = codes.dtype.type(-least)
        for place in range(codes.shape[0]):
            above[place] = (codes[place] >= 0) | ((codes[place] & magnitude) < bound)


@numba.njit(cache=True, nogil=True)
def _flagged(above, places):  # type: ignore[no-untyped-def]
    """Write the places of the flags that are set, in order, and return their number.

    Every 64 flags become the bits of one word, whose trailing zeros lead from one to the next, so
    that flags that are not set cost nothing.
    """
    words, count = above.view(np.uint64), 0
    for first in range(0, words.shape[0], 8):
        eight, mask = words[first : first + 8], np.uint64(0)
        for word in range(8):
            mask |= ((eight[word] * _GATHER) >> _TOP_BYTE) << np.uint64(8 * word)
        while mask:
            places[np.uintp(count)] = 8 * first + np.int64(_trailing_zeros(mask))
            count += 1
            mask &= mask - _ONE
    return count


@numba.njit(cache=True, nogil=True)
def _pack(codes, classes, packed, magnitude):  # type: ignore[no-untyped-def]
    """Pack keys and classes into integers that ascend by descending key, then ascending class."""
    for at in range(classes.shape[0]):
        key = _key(codes[np.uintp(classes[at])], magnitude)
        packed[at] = -key * 65536 + np.int64(classes[at])


@numba.njit(cache=True, nogil=True)
def _sort_packed(packed, spare, count):  # type: ignore[no-untyped-def]
    """Sort the first `count` integers in place, using as much spare memory.

    Runs of equal length are merged in pairs. The padding of the last run is larger than any integer
    that holds the key of a number.
    """
    runs = 1
    while runs * _RUN < count:
        runs *= 2
    length = -(-count // runs)
    largest = np.iinfo(packed.dtype).max
    for at in range(count, runs * length):
        packed[np.uintp(at)] = largest - (at - count)
    old, new = spare, packed
    for run in range(runs):
        first, stop = run * length, (run + 1) * length
        _sort_run(packed[first:stop], spare[first:stop])
    while runs > 1:
        for pair in range(runs // 2):
            first, middle, stop = (
                2 * pair * length,
                (2 * pair + 1) * length,
                (2 * pair + 2) * length,
            )
            _merge(old[first:middle], old[middle:stop], new[first:stop])
        old, new, runs, length = new, old, runs // 2, 2 * length
    if old.ctypes.data != packed.ctypes.data:
        packed[:count] = old[:count]


@numba.njit(cache=True, nogil=True)
def _sort_run(run, into):  # type: ignore[no-untyped-def]
    """Sort a few distinct integers by counting, vectorised, how many are smaller than each."""
    for at in range(run.shape[0]):
        value, place = run[at], np.int32(0)
        for other in range(run.shape[0]):
            place = np.int32(place + np.int32(run[other] < value))
        into[np.uintp(place)] = value


@numba.njit(cache=True, nogil=True)
def _merge(left, right, into):  # type: ignore[no-untyped-def]
    """Merge two sorted runs of equal length, from both ends at once and without branches."""
    length = left.shape[0]
    low, lower, high, higher = np.uintp(0), np.uintp(0), np.uintp(length - 1), np.uintp(length - 1)
    for at in range(length):
        one, other = left[low], right[lower]
        is_left = np.uintp(one < other)
        into[at] = one if one < other else other
        low += is_left
        lower += _ONE - is_left
        one, other = left[high], right[higher]
        is_left = np.uintp(one > other)
        into[np.uintp(2 * length - 1 - at)] = one if one > other else other
        high -= is_left
        higher -= _ONE - is_left


@numba.njit(cache=True, nogil=True)
def _correct_rows(  # type: ignore[no-untyped-def]
    codes, top, target, out, out_top, rest, spare, above, rule, every_row, copies, infinity,
    magnitude,
):  # fmt: skip
    """Correct rows a tile at a time, so that what was checked is still in cache when it changes."""
    rows, classes = codes.shape
    tile = max(1, _TILE_BYTES // (classes * codes.itemsize))
    for first in range(0, rows, tile):
        stop = min(first + tile, rows)
        if every_row or copies:
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
            if not every_row and _has_nan(codes[row], infinity, magnitude):
                return row, _NOT_A_NUMBER
            if rule == _SORT:
                place = _place(out_top, row, label)
                if place >= 0:
                    _sort_known(out, out_top, row, label, place)
                else:
                    count = _rest_above(out, out_top, row, label, rest, spare, above, magnitude)
                    _sort_beyond(out, out_top, row, label, rest, count)
            elif rule == _SWAP:
                _swap_row(out, out_top, row, label)
    return -1, _GOOD
