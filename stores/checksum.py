"""CRC-32C as Zarr's `crc32c` codec defines it, from a library that releases the GIL."""

from __future__ import annotations

from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray


def crc32c(data: Any, crc: int = 0) -> int:
    """Return the CRC-32C of a contiguous buffer, continued from `crc`.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    # The library takes arrays and bytes but not memoryviews; nothing is copied here.
    flat = as_bytes(data) if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8)
    return google_crc32c.extend(crc, flat)


def as_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """View a C-contiguous array as flat bytes, without a copy.

    Raises:
        ValueError: the array is not C-contiguous.
    """
    if not array.flags.c_contiguous:
        raise ValueError("only a C-contiguous array can be viewed as bytes")
    return array.reshape(-1).view(np.uint8)
