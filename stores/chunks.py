"""Single chunks: their bytes, the CRC that ends them, and reading them where they are wanted."""

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
    """One chunk that is absent or is not what was written there."""

    def __init__(self, where: str, key: str, cause: str) -> None:
        super().__init__(
            f"{where}: chunk {key} {cause}: run the job that made the store again to mend it "
            "(`logitbank verify` lists every bad chunk)"
        )
        self.key, self.cause = key, cause


@dataclass(frozen=True)
class CheckedChunk:
    """The payload of a whole chunk as it is stored, and the CRC that it was found to have."""

    payload: memoryview
    crc: int


def write_checked(
    files: Files, spec: ArraySpec, index: tuple[int, ...], chunk: CheckedChunk
) -> int:
    """Write a chunk that was read whole from an array of the same layout, and return its CRC."""
    files.put(spec.chunk_key(index), [chunk.payload, chunk.crc.to_bytes(TRAILER_BYTES, "little")])
    return chunk.crc


def write_chunk(files: Files, spec: ArraySpec, index: tuple[int, ...], values: NDArray[Any]) -> int:
    """Write a chunk from values that may fall short of a full one at the array's edge.

    Returns:
        The CRC-32C of the chunk's payload, as its trailer has it.
    """
    parts = chunk_parts(spec, values)
    files.put(spec.chunk_key(index), parts)
    return int.from_bytes(parts[1], "little")


def chunk_parts(spec: ArraySpec, values: NDArray[Any]) -> tuple[NDArray[np.uint8] | bytes, bytes]:
    """Return a chunk's payload and trailer, from values as `write_chunk` takes them."""
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
        index: the chunk's place along each axis.
        expected: the CRC that `crc/` has for this place; None while the store is not sealed, when
            the trailer alone is the check.

    Returns:
        A read-only array of shape `spec.chunks`.

    Raises:
        ChunkError: the chunk is missing, no file, of another size, damaged, or belongs elsewhere.
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
    """Read the bytes of one chunk with the checks, arguments and errors of `read_chunk`."""
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
    """Read the rows of a chunk into memory that is there already, straight where files allow it.

    Args:
        files: the store's files.
        spec: the array.
        index: the chunk's place along each axis.
        expected: as of `read_chunk`.
        out: a C-contiguous (rows, ...) array that takes the first rows of the chunk, whose first
            axis has one element; what pads the chunk is read aside and checked with the rest.
        on_rows: called with rows that are in memory while more are read; they are counted in the
            CRC by then, so that they may be changed, but the chunk may still turn out to be bad.

    Raises:
        ChunkError, FileError: as `read_chunk`; `out` may then hold anything.
    """
    if spec.compressor is not None:
        _read_compressed_into(files, spec, index, expected, out)
        if on_rows is not None:
            on_rows(slice(0, len(out)))
        return
    key = spec.chunk_key(index)
    trailer = np.empty(TRAILER_BYTES, np.uint8)
    # Each piece is counted while it is in cache.
    step = max(1, PIECE_BYTES * len(out) // max(1, out.nbytes))
    found = 0
    with _chunk_file(files, spec, key) as file:
        padding = np.empty(spec.payload_bytes - out.nbytes, np.uint8)
        for first in range(0, len(out), step):
            rows = slice(first, first + step)
            piece, last = as_bytes(out[rows]), first + step >= len(out)
            # What follows the rows comes with the last of them, in the same call.
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
    """Read a compressed chunk; arguments and errors as of `read_chunk_into`."""
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
    """Decompress a payload that was found good into contiguous memory of a whole chunk.

    Raises:
        ChunkError: whoever wrote it did not write it by the layout.
    """
    assert spec.compressor is not None, "asked before"
    try:
        spec.compressor.decompress(payload, as_bytes(out))
    except ValueError as error:
        cause = f"can't be decompressed ({error})"
        raise ChunkError(where, spec.chunk_key(index), cause) from error


def check_size(where: str, spec: ArraySpec, index: tuple[int, ...], size: int | None) -> None:
    """Check the size that a chunk's file has, None where there is none, against the layout.

    Raises:
        ChunkError: as `read_chunk`, of a chunk that is missing or of another size.
    """
    key = spec.chunk_key(index)
    if size is None:
        raise ChunkError(where, key, "is missing")
    if size != UNKNOWN_SIZE and not spec.may_be(size):
        raise _wrong_size(where, key, size, spec)


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


@contextmanager
def _chunk_file(files: Files, spec: ArraySpec, key: str) -> Iterator[OpenedFile]:
    """Open a chunk of the right size, for the time of a `with` block that reads it.

    Raises:
        ChunkError: it is missing, no file, or of another size.
        FileError: it can't be reached or read.
    """
    try:
        with files.opened(key) as file:
            if not spec.may_be(file.size):
                raise _wrong_size(files.where, key, file.size, spec)
            yield file
    except FileNotFoundError:
        raise ChunkError(files.where, key, "is missing") from None
    except OddFileError as error:
        raise ChunkError(files.where, key, error.cause) from None


def _wrong_size(where: str, key: str, size: int, spec: ArraySpec) -> ChunkError:
    wanted = spec.chunk_bytes or f"{TRAILER_BYTES + 1} to {spec.most_chunk_bytes}"
    return ChunkError(where, key, f"is truncated or foreign ({size} bytes, expected {wanted})")
