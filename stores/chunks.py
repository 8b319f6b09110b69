"""Single chunks: writing them with their CRC, and reading and checking them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.checksum import as_bytes, crc32c
from logitbank.stores.errors import StoreError
from logitbank.stores.files import UNKNOWN_SIZE, Files, OddFileError, OpenedFile
from logitbank.stores.files.buffers import aligned_empty
from logitbank.stores.layout import TRAILER_BYTES, ArraySpec

PIECE_BYTES = 2 * 2**20


class ChunkError(StoreError):
    """A chunk that is missing, or is not the one that was written."""

    def __init__(self, where: str, key: str, cause: str) -> None:
        super().__init__(
            f"{where}: chunk {key} {cause}: run the job that made the store again to mend it "
            "(`logitbank verify` lists every bad chunk)"
        )
        self.key, self.cause = key, cause


@dataclass(frozen=True)
class CheckedChunk:
    """The payload of a whole chunk as it is stored, and its verified CRC."""

    payload: memoryview
    crc: int


def write_checked(
    files: Files, spec: ArraySpec, index: tuple[int, ...], chunk: CheckedChunk
) -> int:
    """Write a chunk that was read from an array of the same layout, and return its CRC."""
    files.put(spec.chunk_key(index), [chunk.payload, chunk.crc.to_bytes(TRAILER_BYTES, "little")])
    return chunk.crc


def write_chunk(files: Files, spec: ArraySpec, index: tuple[int, ...], values: NDArray[Any]) -> int:
    """Write a chunk, from values that may be less than a full one at the array's edge.

    Returns:
        The CRC-32C of the chunk's payload, as in its trailer.
    """
    parts = chunk_parts(spec, values)
    files.put(spec.chunk_key(index), parts)
    return int.from_bytes(parts[1], "little")


def chunk_parts(spec: ArraySpec, values: NDArray[Any]) -> tuple[NDArray[np.uint8] | bytes, bytes]:
    """Return a chunk's payload and trailer; arguments as for `write_chunk`."""
    full = values
    if values.shape != spec.chunks:
        full = np.zeros(spec.chunks, spec.dtype)
        full[tuple(slice(0, side) for side in values.shape)] = values
    values = as_bytes(np.ascontiguousarray(full, spec.dtype))
    payload = values if spec.compressor is None else spec.compressor.compress(values)
    return payload, crc32c(payload).to_bytes(TRAILER_BYTES, "little")


def read_chunk(
    files: Files, spec: ArraySpec, index: tuple[int, ...], expected: int | None
) -> NDArray[Any]:
    """Read one whole chunk, padding included, after checking its size and CRC.

    Args:
        files: the store's files.
        spec: the array.
        index: the chunk's index along each axis.
        expected: the CRC that `crc/` has for this chunk; None before the store is sealed, when the
            trailer is the only check.

    Returns:
        A read-only array of shape `spec.chunks`.

    Raises:
        ChunkError: the chunk is missing, damaged, not a file, of the wrong size, or belongs
            elsewhere.
        FileError: it can't be reached or read.
    """
    payload = read_checked(files, spec, index, expected).payload
    if spec.compressor is None:
        return np.frombuffer(payload, spec.dtype).reshape(spec.chunks)
    values = aligned_empty(spec.chunks, spec.dtype)
    _decompress(files.where, spec, index, payload, values)
    values.flags.writeable = False
    return values


def verify_chunk(
    files: Files, spec: ArraySpec, index: tuple[int, ...], expected: int | None
) -> int:
    """Check a chunk's size and CRC as `read_chunk` does, and return the CRC.

    Raises:
        ChunkError, FileError: as `read_chunk`.
    """
    return read_checked(files, spec, index, expected).crc


def read_checked(
    files: Files, spec: ArraySpec, index: tuple[int, ...], expected: int | None
) -> CheckedChunk:
    """Read the payload of one chunk; checks, arguments and errors as for `read_chunk`."""
    key = spec.chunk_key(index)
    with _chunk_file(files, spec, key) as file:
        array = aligned_empty(file.size, np.uint8)
        file.read_into([array])
    data = array.data
    payload, trailer = data[:-TRAILER_BYTES], data[-TRAILER_BYTES:]
    found = crc32c(payload)
    check_crc(files.where, key, found, int.from_bytes(trailer, "little"), expected)
    return CheckedChunk(payload, found)


def read_chunk_into(
    files: Files,
    spec: ArraySpec,
    index: tuple[int, ...],
    expected: int | None,
    out: NDArray[Any],
    on_rows: Callable[[slice], None] | None = None,
) -> None:
    """Read the rows of a chunk into existing memory, without a copy where the files allow it.

    Args:
        files: the store's files.
        spec: the array.
        index: the chunk's index along each axis.
        expected: as for `read_chunk`.
        out: a C-contiguous (rows, ...) array for the first rows of the chunk, whose first axis has
            length one; the chunk's padding is read separately and checked with the rest.
        on_rows: called with the rows that have arrived, before more are read. The CRC includes them
            by then, so they may be changed, but the chunk may still turn out to be bad.

    Raises:
        ChunkError, FileError: as `read_chunk`; `out` is then undefined.
    """
    if spec.compressor is not None:
        _read_compressed_into(files, spec, index, expected, out)
        if on_rows is not None:
            on_rows(slice(0, len(out)))
        return
    key = spec.chunk_key(index)
    trailer = np.empty(TRAILER_BYTES, np.uint8)
    # The CRC of each piece is computed while it is in cache.
    step = max(1, PIECE_BYTES * len(out) // max(1, out.nbytes))
    found = 0
    with _chunk_file(files, spec, key) as file:
        padding = np.empty(spec.payload_bytes - out.nbytes, np.uint8)
        for first in range(0, len(out), step):
            rows = slice(first, first + step)
            piece, last = as_bytes(out[rows]), first + step >= len(out)
            # Padding and trailer are read with the last rows, in the same call.
            file.read_into([piece, padding, trailer] if last else [piece])
            found = crc32c(piece, found)
            if on_rows is not None:
                on_rows(rows)
    found = crc32c(padding, found)
    check_crc(files.where, key, found, int.from_bytes(trailer.tobytes(), "little"), expected)


def _read_compressed_into(
    files: Files,
    spec: ArraySpec,
    index: tuple[int, ...],
    expected: int | None,
    out: NDArray[Any],
) -> None:
    """Read a compressed chunk; arguments and errors as for `read_chunk_into`."""
    payload = read_checked(files, spec, index, expected).payload
    if out.nbytes == spec.payload_bytes:
        _decompress(files.where, spec, index, payload, out)
        return
    full = aligned_empty(spec.chunks, spec.dtype)
    _decompress(files.where, spec, index, payload, full)
    out[...] = full[0, : len(out)]


def _decompress(
    where: str, spec: ArraySpec, index: tuple[int, ...], payload: memoryview, out: NDArray[Any]
) -> None:
    """Decompress a verified payload into contiguous memory of a whole chunk.

    Raises:
        ChunkError: it was not written according to the layout.
    """
    assert spec.compressor is not None, "checked by the caller"
    try:
        spec.compressor.decompress(payload, as_bytes(out))
    except ValueError as error:
        cause = f"can't be decompressed ({error})"
        raise ChunkError(where, spec.chunk_key(index), cause) from error


def check_size(where: str, spec: ArraySpec, index: tuple[int, ...], size: int | None) -> None:
    """Check the size of a chunk's file, None if it is missing, against the layout.

    Raises:
        ChunkError: the chunk is missing or has the wrong size.
    """
    key = spec.chunk_key(index)
    if size is None:
        raise ChunkError(where, key, "is missing")
    if size != UNKNOWN_SIZE and not spec.allows_size(size):
        raise _wrong_size(where, key, size, spec)


def check_crc(where: str, key: str, found: int, trailer: int, expected: int | None) -> None:
    """Compare a payload's CRC with the chunk's trailer and with the store's table.

    Raises:
        ChunkError: they differ; the message distinguishes damage from a misplaced chunk.
    """
    if found != trailer:
        raise ChunkError(
            where, key, f"is damaged (its bytes have CRC {found:08x}, its trailer {trailer:08x})"
        )
    if expected is not None and found != expected:
        raise ChunkError(
            where,
            key,
            f"belongs elsewhere (its CRC is {found:08x}, this place was sealed with "
            f"{expected:08x})",
        )


@contextmanager
def _chunk_file(files: Files, spec: ArraySpec, key: str) -> Iterator[OpenedFile]:
    """Yield the open file of a chunk, after checking its size.

    Raises:
        ChunkError: it is missing, not a file, or of the wrong size.
        FileError: it can't be reached or read.
    """
    try:
        with files.open(key) as file:
            if not spec.allows_size(file.size):
                raise _wrong_size(files.where, key, file.size, spec)
            yield file
    except FileNotFoundError:
        raise ChunkError(files.where, key, "is missing") from None
    except OddFileError as error:
        raise ChunkError(files.where, key, error.cause) from None


def _wrong_size(where: str, key: str, size: int, spec: ArraySpec) -> ChunkError:
    wanted = spec.chunk_bytes or f"{TRAILER_BYTES + 1} to {spec.max_chunk_bytes}"
    return ChunkError(where, key, f"is truncated or foreign ({size} bytes, expected {wanted})")
