"""The arrays of a store: their shapes, their chunks and their Zarr v3 metadata.

The metadata documents are written here rather than by a library, so that the same work has the same
bytes, and so the same digest, under every release of zarr-python.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from logitbank.stores.encodings import RowArray, encoding_named
from logitbank.stores.encodings.codecs import Zstd
from logitbank.stores.manifest import Manifest

CHUNK_BYTES = 32 * 2**20
TRAILER_BYTES = 4
TOP_CLASSES = 16
ROW_DIMENSIONS = ("view", "sample")
GROUP_DOCUMENT: dict[str, Any] = {"zarr_format": 3, "node_type": "group"}


@dataclass(frozen=True, order=True)
class Unit:
    """The unit of work, done whole or not at all: the rows of one block of samples in one view."""

    view: int
    block: int


@dataclass(frozen=True)
class ArraySpec:
    """One Zarr v3 array: little-endian chunks, each with a CRC-32C as its trailer.

    Without a `compressor`, chunks are stored as they are in memory and all have one size.
    """

    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    dimensions: tuple[str, ...]
    compressor: Zstd | None = None

    @property
    def grid(self) -> tuple[int, ...]:
        """The number of chunks along each axis."""
        return tuple(
            math.ceil(side / chunk) for side, chunk in zip(self.shape, self.chunks, strict=True)
        )

    @property
    def payload_bytes(self) -> int:
        """The size of one chunk's values, uncompressed; edge chunks are padded to full ones."""
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def chunk_bytes(self) -> int | None:
        """The size of every chunk's file, trailer included; None if chunks are compressed."""
        return self.payload_bytes + TRAILER_BYTES if self.compressor is None else None

    @property
    def max_chunk_bytes(self) -> int:
        """The largest possible size of a chunk's file, trailer included."""
        values = self.payload_bytes
        stored = values if self.compressor is None else self.compressor.max_bytes(values)
        return stored + TRAILER_BYTES

    def allows_size(self, size: int) -> bool:
        """Return whether a whole chunk's file can have this size."""
        if self.chunk_bytes is None:
            return TRAILER_BYTES < size <= self.max_chunk_bytes
        return size == self.chunk_bytes

    @property
    def document_key(self) -> str:
        """The key of the array's metadata document."""
        return f"{self.name}/zarr.json"

    def chunk_key(self, index: tuple[int, ...]) -> str:
        """Return the key of a chunk.

        >>> ArraySpec("crc/top", (4,), (4,), np.dtype("uint32"), ("view",)).chunk_key((0,))
        'crc/top/c/0'
        """
        return "/".join([self.name, "c", *map(str, index)])

    def indices(self) -> Iterator[tuple[int, ...]]:
        """Yield the indices of all chunks, in order."""
        return product(*map(range, self.grid))

    def document(self) -> dict[str, Any]:
        """Return the array's Zarr v3 metadata document."""
        compressors = [] if self.compressor is None else [self.compressor.document()]
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(self.chunks)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0.0 if self.dtype.kind == "f" else 0,
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                *compressors,
                {"name": "crc32c"},
            ],
            "attributes": {},
            "dimension_names": list(self.dimensions),
            "storage_transformers": [],
        }


def rows_per_chunk(samples: int, row_bytes: int, chunk_bytes: int = CHUNK_BYTES) -> int:
    """Return B, the rows of a block: about `chunk_bytes`, with less than a row of padding a block.

    >>> rows_per_chunk(50_000, 2_000), rows_per_chunk(10, 2_000)
    (12500, 10)
    """
    full = max(1, chunk_bytes // row_bytes)
    return math.ceil(samples / math.ceil(samples / full))


def index_dtype(classes: int) -> np.dtype[Any]:
    """Return the smallest dtype that holds every class index."""
    return np.dtype(np.uint8 if classes <= 256 else np.uint16)


def store_arrays(manifest: Manifest) -> dict[str, ArraySpec]:
    """Return the arrays of a store by name, in the order they are written.

    Those of `crc/` are not included (see `crc_arrays`).
    """
    samples, classes = manifest.dataset.samples, manifest.dataset.classes
    augmentation, integers = manifest.augmentation, index_dtype(classes)
    specs = [
        ArraySpec("target", (samples,), (samples,), np.dtype(np.int32), ("sample",)),
        ArraySpec("sample_id", (samples,), (samples,), np.dtype(np.uint64), ("sample",)),
    ]
    columns = len(augmentation.columns)
    per_row = [
        RowArray("view_params", (columns,), np.dtype(augmentation.dtype), ("column",)),
        RowArray("pixel_crc", (), np.dtype(np.uint32), ()),
        RowArray("top", (manifest.top_classes,), integers, ("rank",)),
        *encoding_named(manifest.encoding).arrays(classes),
    ]
    specs += [_of_rows(manifest, array) for array in per_row]
    return {spec.name: spec for spec in specs}


def _of_rows(manifest: Manifest, array: RowArray) -> ArraySpec:
    """Return the spec of an array that has a row for each view and sample."""
    return ArraySpec(
        array.name,
        (manifest.views, manifest.dataset.samples, *array.inner),
        (1, manifest.rows_per_chunk, *array.inner),
        array.dtype,
        (*ROW_DIMENSIONS, *array.dimensions),
        array.compressor,
    )


def crc_arrays(arrays: dict[str, ArraySpec]) -> dict[str, ArraySpec]:
    """Return the arrays of `crc/`: for each array, the CRCs of its chunks, by chunk index."""
    return {
        name: ArraySpec(
            f"crc/{name}",
            spec.grid,
            spec.grid,
            np.dtype(np.uint32),
            tuple(f"{dimension}_chunk" for dimension in spec.dimensions),
        )
        for name, spec in arrays.items()
    }


def unit_arrays(arrays: dict[str, ArraySpec]) -> list[ArraySpec]:
    """Return the arrays that a unit writes, in order; the ledger array is the last."""
    return [spec for spec in arrays.values() if spec.dimensions[:2] == ROW_DIMENSIONS]


def ledger_array(arrays: dict[str, ArraySpec]) -> ArraySpec:
    """Return the ledger array, whose chunk a unit writes last."""
    return unit_arrays(arrays)[-1]


def unit_index(spec: ArraySpec, unit: Unit) -> tuple[int, ...]:
    """Return the index of a unit's chunk in an array that has a row for each view and sample."""
    return (unit.view, unit.block, *(0,) * (len(spec.shape) - 2))


def store_keys(arrays: dict[str, ArraySpec]) -> list[str]:
    """Return the keys of some arrays: their metadata documents and all their chunks."""
    return [
        key
        for spec in arrays.values()
        for key in [spec.document_key, *map(spec.chunk_key, spec.indices())]
    ]


def block_bounds(manifest: Manifest, block: int) -> tuple[int, int]:
    """Return the first sample of a block, and the one after its last."""
    start = block * manifest.rows_per_chunk
    return start, min(start + manifest.rows_per_chunk, manifest.dataset.samples)


def all_units(manifest: Manifest) -> list[Unit]:
    """Return the units of a store, view by view."""
    blocks = math.ceil(manifest.dataset.samples / manifest.rows_per_chunk)
    return [Unit(view, block) for view in range(manifest.views) for block in range(blocks)]
