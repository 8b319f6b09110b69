"""Aligned memory for reading and writing files."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

ALIGNMENT = 64


def aligned_empty(shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return an uninitialised C-contiguous array that starts at a cache line.

    NumPy's own large arrays start 16 bytes after one. On some processors (measured: AMD EPYC) the
    kernel copies a file to such an address at less than half the speed.

    Args:
        shape: the array's shape.
        dtype: any dtype whose items divide a cache line evenly.
    """
    kind = np.dtype(dtype)
    size = math.prod((shape,) if isinstance(shape, int) else shape) * kind.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(kind).reshape(shape)
