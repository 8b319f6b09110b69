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

from logitbank.stores.encodings import encoding_named
from logitbank.stores.manifest import Manifest

CHUNK_BYTES = 32 * 2**20
TRAILER_BYTES = 4
TOP_CLASSES = 16
GROUP_DOCUMENT: dict[str, Any] = {"zarr_format": 3, "node_type": "group"}


@dataclass(frozen=True, order=True)
class Unit:
    """The unit of work and of loss: the rows of one block of samples under one view."""

    view: int
    block: int


@dataclass(frozen=True)
class ArraySpec:
    """One Zarr v3 array: uncompressed little-endian chunks, each with a CRC-32C as its trailer."""

    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    dimensions: tuple[str, ...]

    @property
    def grid(self) -> tuple[int, ...]:
        """The number of chunks along each axis."""
        return tuple(
            math.ceil(side / chunk) for side, chunk in zip(self.shape, self.chunks, strict=True)
        )

    @property
    def payload_bytes(self) -> int:
        """The bytes of one chunk without its trailer; edge chunks are padded to full ones."""
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def document_key(self) -> str:
        """The key of the array's metadata document."""
        return f"{self.name}/zarr.json"

    def chunk_key(self, index: tuple[int, ...]) -> str:
        """Give the key of a chunk.

        >>> ArraySpec("crc/top", (4,), (4,), np.dtype("uint32"), ("view",)).chunk_key((0,))
        'crc/top/c/0'
        """
        return "/".join([self.name, "c", *map(str, index)])

    def indices(self) -> Iterator[tuple[int, ...]]:
        """Go through the places of all chunks, in order."""
        return product(*map(range, self.grid))

    def document(self) -> dict[str, Any]:
        """Give the array's Zarr v3 metadata document."""
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
    """Give the smallest dtype that holds every class index."""
    return np.dtype(np.uint8 if classes <= 256 else np.uint16)


def store_arrays(manifest: Manifest) -> dict[str, ArraySpec]:
    """Lay out the arrays of a store, by name; `crc/` is left out (see `crc_arrays`)."""
    views, samples, classes = manifest.views, manifest.dataset.samples, manifest.dataset.classes
    rows, top = manifest.rows_per_chunk, manifest.top_classes
    augmentation = manifest.augmentation
    columns = len(augmentation.columns)
    codes = encoding_named(manifest.encoding).dtype
    # (name, inner size, dtype, dimension) of what has a row for each view of each sample.
    per_view: list[tuple[str, int | None, np.dtype[Any], tuple[str, ...]]] = [
        ("view_params", columns, np.dtype(augmentation.dtype), ("column",)),
        ("pixel_crc", None, np.dtype(np.uint32), ()),
        ("top", top, index_dtype(classes), ("rank",)),
        ("logits", classes, codes, ("class",)),
    ]
    specs = [
        ArraySpec("target", (samples,), (samples,), np.dtype(np.int32), ("sample",)),
        ArraySpec("sample_id", (samples,), (samples,), np.dtype(np.uint64), ("sample",)),
    ]
    for name, inner, dtype, dimensions in per_view:
        tail = () if inner is None else (inner,)
        specs.append(
            ArraySpec(
                name,
                (views, samples, *tail),
                (1, rows, *tail),
                dtype,
                ("view", "sample", *dimensions),
            )
        )
    return {spec.name: spec for spec in specs}


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
    """Give the arrays that a unit writes, in their order: the ledger's array, `logits`, last."""
    return [arrays[name] for name in ("view_params", "pixel_crc", "top", "logits")]


def unit_index(spec: ArraySpec, unit: Unit) -> tuple[int, ...]:
    """Give the place of a unit's chunk in an array that has a row for each view and sample."""
    return (unit.view, unit.block, *(0,) * (len(spec.shape) - 2))


def store_keys(arrays: dict[str, ArraySpec]) -> list[str]:
    """List the keys of some arrays: each one's metadata document and all its chunks."""
    return [
        key
        for spec in arrays.values()
        for key in [spec.document_key, *map(spec.chunk_key, spec.indices())]
    ]


def block_bounds(manifest: Manifest, block: int) -> tuple[int, int]:
    """Give the first sample of a block and the one after its last."""
    start = block * manifest.rows_per_chunk
    return start, min(start + manifest.rows_per_chunk, manifest.dataset.samples)


def all_units(manifest: Manifest) -> list[Unit]:
    """List the units of a store, view by view."""
    blocks = math.ceil(manifest.dataset.samples / manifest.rows_per_chunk)
    return [Unit(view, block) for view in range(manifest.views) for block in range(blocks)]
