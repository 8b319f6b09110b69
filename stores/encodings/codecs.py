"""Compression of a chunk's bytes, before its CRC is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Zstd:
    """Zstandard as in zarr's `ZstdCodec`, at one level and without a checksum of its own.

    The CRC-32C of a chunk covers the compressed bytes.
    """

    level: int = 3

    def document(self) -> dict[str, Any]:
        """Return the codec's Zarr v3 metadata."""
        return {"name": "zstd", "configuration": {"level": self.level, "checksum": False}}

    def compress(self, values: NDArray[np.uint8]) -> bytes:
        """Compress bytes into one frame, which records their number."""
        # Imported where it is used: no encoding that comes with logitbank compresses its chunks.
        from numcodecs import zstd

        return zstd.compress(values, self.level)

    def decompress(self, frame: memoryview, out: NDArray[np.uint8]) -> None:
        """Decompress a frame into contiguous memory of the expected size.

        Raises:
            ValueError: it is not one zstd frame of that size.
        """
        from numcodecs import zstd

        held = _content_bytes(frame)
        if held != out.nbytes:
            raise ValueError(f"not a zstd frame of {out.nbytes} bytes")
        try:
            zstd.decompress(frame, out)
        except RuntimeError as error:
            raise ValueError(str(error)) from error

    def max_bytes(self, count: int) -> int:
        """Return the most that `count` bytes can take when compressed."""
        # ZSTD_COMPRESSBOUND of zstd.h.
        return count + (count >> 8) + (((128 << 10) - count) >> 11 if count < 128 << 10 else 0)


_MAGIC = b"\x28\xb5\x2f\xfd"


def _content_bytes(frame: memoryview) -> int | None:
    """Return the content size in a frame's header (RFC 8878, section 3.1.1.1).

    None if it is not a frame or records no size. Checked because numcodecs accepts output memory
    that is larger than the content.
    """
    if len(frame) < 6 or bytes(frame[:4]) != _MAGIC:
        return None
    flags = frame[4]
    is_single = bool(flags & 0x20)
    first = 5 + (not is_single) + (0, 1, 2, 4)[flags & 3]
    size = (int(is_single), 2, 4, 8)[flags >> 6]
    if not size or len(frame) < first + size:
        return None
    held = int.from_bytes(frame[first : first + size], "little")
    return held + 256 if size == 2 else held
