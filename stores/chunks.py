"""Single chunks: their bytes, the CRC that ends them, and reading them where they are wanted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.checksum import as_bytes, crc32c
from logitbank.stores.errors import StoreError
from logitbank.stores.files import Files, LocalFiles
from logitbank.stores.layout import TRAILER_BYTES, ArraySpec


class ChunkError(StoreError):
    """One chunk that is absent or is not what was written there."""

    def __init__(self, where: str, key: str, cause: str) -> None:
        super().__init__(
            f"{where}: chunk {key} {cause}: run the job that made the store again to mend it "
            "(`logitbank verify` lists every bad chunk)"
        )
        self.key, self.cause = key, cause


def write_chunk(
    files: LocalFiles, spec: ArraySpec, index: tuple[int, ...], values: NDArray[Any]
) -> int:
    """Write a chunk from values that may fall short of a full one at the array's edge.

    Returns:
        The CRC-32C of the chunk's payload, as its trailer has it.
    """
    full = values
    if values.shape != spec.chunks:
        full = np.zeros(spec.chunks, spec.dtype)
        full[tuple(slice(0, side) for side in values.shape)] = values
    payload = as_bytes(np.ascontiguousarray(full, spec.dtype))
    crc = crc32c(payload)
    files.put(spec.chunk_key(index), [payload, crc.to_bytes(TRAILER_BYTES, "little")])
    return crc


def read_chunk(
    files: Files, spec: ArraySpec, index: tuple[int, ...], expected: int | None
) -> NDArray[Any]:
    """Read one whole chunk, padding included, after checking its size and CRC.

    Args:
        files: the store's files.
        spec: the array.
        index: the chunk's place along each axis.
        expected: the CRC that `crc/` has for this place; None while the store is not sealed, when
            the trailer alone is the check.

    Returns:
        A read-only array of shape `spec.chunks`.

    Raises:
        ChunkError: the chunk is missing, of another size, damaged, or belongs elsewhere.
    """
    payload, _ = _checked_payload(files, spec, index, expected)
    return np.frombuffer(payload, spec.dtype).reshape(spec.chunks)


def verify_chunk(
    files: Files, spec: ArraySpec, index: tuple[int, ...], expected: int | None
) -> int:
    """Check a chunk as `read_chunk` does and give its CRC.

    Raises:
        ChunkError: as `read_chunk`.
    """
    return _checked_payload(files, spec, index, expected)[1]


def read_chunk_into(
    files: LocalFiles,
    spec: ArraySpec,
    index: tuple[int, ...],
    expected: int | None,
    out: NDArray[Any],
) -> None:
    """Read the rows of a chunk straight into memory that is there already.

    `out` is a C-contiguous (rows, ...) array that takes the first rows of the chunk, whose first
    axis has one element; what pads the chunk is read aside and checked with the rest.

    Raises:
        ChunkError: as `read_chunk`; `out` may then hold anything.
    """
    key = spec.chunk_key(index)
    rows = as_bytes(out)
    padding = np.empty(spec.payload_bytes - rows.size, np.uint8)
    trailer = bytearray(TRAILER_BYTES)
    try:
        size = _read_vector(files.path(key), [rows.data, padding.data, trailer])
    except (FileNotFoundError, NotADirectoryError):
        raise ChunkError(files.where, key, "is missing") from None
    if size != spec.payload_bytes + TRAILER_BYTES:
        raise _wrong_size(files.where, key, size, spec)
    found = crc32c(padding, crc32c(rows))
    check_crc(files.where, key, found, int.from_bytes(trailer, "little"), expected)


def check_crc(where: str, key: str, found: int, trailer: int, expected: int | None) -> None:
    """Compare a payload's CRC with the chunk's trailer and with the store's table.

    Raises:
        ChunkError: they differ; the message tells damage from a chunk that belongs elsewhere.
    """
    if found != trailer:
        raise ChunkError(
            where, key, f"is damaged (its bytes have CRC {found:08x}, it says {trailer:08x})"
        )
    if expected is not None and found != expected:
        raise ChunkError(
            where,
            key,
            f"belongs elsewhere (its CRC is {found:08x}, this place was sealed with "
            f"{expected:08x})",
        )


def _checked_payload(
    files: Files, spec: ArraySpec, index: tuple[int, ...], expected: int | None
) -> tuple[memoryview, int]:
    key = spec.chunk_key(index)
    data = files.get(key)
    if data is None:
        raise ChunkError(files.where, key, "is missing")
    if len(data) != spec.payload_bytes + TRAILER_BYTES:
        raise _wrong_size(files.where, key, len(data), spec)
    payload = memoryview(data)[:-TRAILER_BYTES]
    found = crc32c(payload)
    check_crc(files.where, key, found, int.from_bytes(data[-TRAILER_BYTES:], "little"), expected)
    return payload, found


def _wrong_size(where: str, key: str, size: int, spec: ArraySpec) -> ChunkError:
    wanted = spec.payload_bytes + TRAILER_BYTES
    return ChunkError(where, key, f"is truncated or foreign ({size} bytes, expected {wanted})")


def _read_vector(path: Path, buffers: list[Any]) -> int:
    """Fill the buffers, in order, from a file; give the file's size, which may differ."""
    with open(path, "rb", buffering=0) as file:
        descriptor = file.fileno()
        size = os.fstat(descriptor).st_size
        if size == sum(len(buffer) for buffer in buffers):
            _fill(descriptor, [memoryview(buffer) for buffer in buffers if len(buffer)])
        return size


def _fill(descriptor: int, buffers: list[memoryview]) -> None:
    offset = 0
    while buffers:
        count = os.preadv(descriptor, buffers, offset)
        if count == 0:
            return  # Truncated since its size was asked for: the CRC will say so.
        offset += count
        while buffers and count >= len(buffers[0]):
            count -= len(buffers.pop(0))
        if count:
            buffers[0] = buffers[0][count:]
