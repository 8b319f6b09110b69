"""What a job is about to do: how many units, how many bytes, and whether there is room."""

from __future__ import annotations

import shutil
from pathlib import Path

from logitbank.stores.errors import StoreError
from logitbank.stores.files import LocalFiles
from logitbank.stores.layout import TRAILER_BYTES, all_units, store_arrays, unit_index
from logitbank.stores.manifest import Manifest


def store_bytes(manifest: Manifest) -> int:
    """Give the bytes that all chunks of a store take, trailers included."""
    return sum(
        (spec.payload_bytes + TRAILER_BYTES) * len(list(spec.indices()))
        for spec in store_arrays(manifest).values()
    )


def units_present(location: str | Path, manifest: Manifest) -> int:
    """Count the units whose last chunk is there; their bytes are not checked."""
    logits = store_arrays(manifest)["logits"]
    files = LocalFiles(location)
    return sum(
        files.path(logits.chunk_key(unit_index(logits, unit))).exists()
        for unit in all_units(manifest)
    )


def free_bytes(location: Path) -> int:
    """Give the free bytes of the disk that a path lies or will lie on."""
    folder = location.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_room(location: Path, wanted: int) -> None:
    """Require that a store fits on its disk, beside what is there of it already.

    Raises:
        StoreError: it doesn't; both sizes are named.
    """
    there = 0
    if location.is_dir():
        there = sum(path.stat().st_size for path in location.rglob("*") if path.is_file())
    free = free_bytes(location)
    if wanted - there > free:
        raise StoreError(
            f"the disk is too full for {location}: {wanted - there:,} bytes are needed, "
            f"{free:,} are free"
        )


def store_plan(location: str, manifest: Manifest) -> list[str]:
    """Describe what making a store will take, in lines."""
    units, size = len(all_units(manifest)), store_bytes(manifest)
    present = units_present(location, manifest)
    rows = manifest.views * manifest.dataset.samples
    return [
        f"  {manifest.views:,} views of {manifest.dataset.samples:,} samples: {rows:,} rows",
        f"  {units:,} units of {manifest.rows_per_chunk:,} rows, {units - present:,} lacking",
        f"  {size:,} bytes as {manifest.encoding}; {free_bytes(Path(location)):,} are free",
    ]
