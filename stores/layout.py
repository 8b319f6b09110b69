"""Which arrays a store has, how they are cut into chunks, and what Zarr v3 says of them.

The metadata documents are written out here, not by a library, so that the same work gives the same
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
    """The unit of work and of loss: the rows of one block of samples under one view."""

    view: int
    block: int


@dataclass(frozen=True)
class ArraySpec:
    """One Zarr v3 array: little-endian chunks, each with a CRC-32C as its trailer.

    Chunks are as they are in memory where there is no `compressor`, and then all of one size.
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
        """The bytes of one chunk's values, uncompressed; edge chunks are padded to full ones."""
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def chunk_bytes(self) -> int | None:
        """The size of every chunk's file, trailer included; None where chunks are compressed."""
        return self.payload_bytes + TRAILER_BYTES if self.compressor is None else None

    @property
    def most_chunk_bytes(self) -> int:
        """The most that the file of a chunk can take."""
        values = self.payload_bytes
        stored = values if self.compressor is None else self.compressor.most_bytes(values)
        return stored + TRAILER_BYTES

    def may_be(self, size: int) -> bool:
        """Say whether a whole chunk's file can have this size."""
        if self.chunk_bytes is None:
            return TRAILER_BYTES < size <= self.most_chunk_bytes
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
        """Yield the places of all chunks, in order."""
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
    """Choose B, the rows of a block: about `chunk_bytes`, and less than a row a block of padding.

    >>> rows_per_chunk(50_000, 2_000), rows_per_chunk(10, 2_000)
    (12500, 10)
    """
    full = max(1, chunk_bytes // row_bytes)
    return math.ceil(samples / math.ceil(samples / full))


def index_dtype(classes: int) -> np.dtype[Any]:
    """Return the smallest dtype that holds every class index."""
    return np.dtype(np.uint8 if classes <= 256 else np.uint16)


def store_arrays(manifest: Manifest) -> dict[str, ArraySpec]:
    """Lay out the arrays of a store, by name and in the order that they are written in.

    `crc/` is left out (see `crc_arrays`).
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
    """Lay out an array that has something for each view of each sample."""
    return ArraySpec(
        array.name,
        (manifest.views, manifest.dataset.samples, *array.inner),
        (1, manifest.rows_per_chunk, *array.inner),
        array.dtype,
        (*ROW_DIMENSIONS, *array.dimensions),
        array.compressor,
    )


def crc_arrays(arrays: dict[str, ArraySpec]) -> dict[str, ArraySpec]:
    """Lay out `crc/`: for each array the CRC of each of its chunks, by the chunk's place."""
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
    """List the arrays that a unit writes, in their order; the ledger's array comes last."""
    return [spec for spec in arrays.values() if spec.dimensions[:2] == ROW_DIMENSIONS]


def ledger_array(arrays: dict[str, ArraySpec]) -> ArraySpec:
    """Return the array whose chunk a unit writes last."""
    return unit_arrays(arrays)[-1]


def unit_index(spec: ArraySpec, unit: Unit) -> tuple[int, ...]:
    """Return the place of a unit's chunk in an array that has a row for each view and sample."""
    return (unit.view, unit.block, *(0,) * (len(spec.shape) - 2))


def store_keys(arrays: dict[str, ArraySpec]) -> list[str]:
    """List the keys of some arrays: each one's metadata document and all its chunks."""
    return [
        key
        for spec in arrays.values()
        for key in [spec.document_key, *map(spec.chunk_key, spec.indices())]
    ]


def block_bounds(manifest: Manifest, block: int) -> tuple[int, int]:
    """Return the first sample of a block and the one after its last."""
    start = block * manifest.rows_per_chunk
    return start, min(start + manifest.rows_per_chunk, manifest.dataset.samples)


def all_units(manifest: Manifest) -> list[Unit]:
    """List the units of a store, view by view."""
    blocks = math.ceil(manifest.dataset.samples / manifest.rows_per_chunk)
    return [Unit(view, block) for view in range(manifest.views) for block in range(blocks)]
