"""What a job is about to do: how many units, how many bytes, and whether there is room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from logitbank.stores.creation import is_free
from logitbank.stores.documents import CRC_GROUP_KEY, ROOT_KEY, UNFINISHED_KEY, read_manifest
from logitbank.stores.errors import StoreError
from logitbank.stores.files import LocalFiles
from logitbank.stores.layout import TRAILER_BYTES, Unit, all_units, store_arrays, unit_index
from logitbank.stores.manifest import Manifest, identity_differences


def require_store_place(location: str | Path) -> None:
    """Require that a store can be made at a path, or that one lies there, before any work.

    Raises:
        StoreError: something else lies there.
    """
    path = Path(location)
    if path.is_dir():
        if not any((path / key).is_file() for key in (ROOT_KEY, CRC_GROUP_KEY, UNFINISHED_KEY)):
            raise StoreError(f"{path} is not a store: {told_content(path)}; name another --out")
    elif os.path.lexists(path):
        what = "a file" if path.exists() else "a link to nothing"
        raise StoreError(f"{path} is {what}, where a store needs a folder: name another --out")


def _require_same_work(location: str, wanted: Manifest) -> None:
    try:
        found = read_manifest(LocalFiles(location))
    except StoreError:
        return  # None is there, or it is damaged: whether it can be mended shows when it is opened.
    differences = identity_differences(found, wanted)
    if differences and found.seal in (None, found.seal_value()):
        raise StoreError(
            f"{location} holds other work: {'; '.join(differences)}. Name another --out"
        )


def told_content(folder: Path) -> str:
    """Say what a folder holds, by the first of its names."""
    names = sorted(os.listdir(folder))
    shown = ", ".join(names[:3])
    if not names:
        return "the folder is empty"
    return f"it holds {shown}" + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")


def store_bytes(manifest: Manifest) -> int:
    """Give the bytes that all chunks of a store take, trailers included."""
    return sum(
        (spec.payload_bytes + TRAILER_BYTES) * len(list(spec.indices()))
        for spec in store_arrays(manifest).values()
    )


def units_present(
    location: str | Path, manifest: Manifest, units: Iterable[Unit] | None = None
) -> int:
    """Count the units whose last chunk is there, of all or of some; bytes are not checked."""
    ledger = ledger_array(store_arrays(manifest))
    files = LocalFiles(location)
    return sum(
        _is_there(files.path(ledger.chunk_key(unit_index(ledger, unit))))
        for unit in (all_units(manifest) if units is None else units)
    )


def _is_there(path: Path) -> bool:
    if path.exists():
        return True
    try:
        # Reading a folder makes a network file system ask its server again.
        return path.name in os.listdir(path.parent)
    except (FileNotFoundError, NotADirectoryError):
        return False


def free_bytes(location: Path) -> int:
    """Give the free bytes of the disk that a path lies or will lie on."""
    folder = location.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_room(location: Path, wanted: int) -> None:
    """Require that a store fits on its disk, beside what is there of it already.

    Raises:
        StoreError: it doesn't; both sizes are named. Or its place can hold no store at all.
    """
    is_free(location)
    there = 0
    if location.is_dir():
        there = sum(map(_file_bytes, location.rglob("*")))
    free = free_bytes(location)
    if wanted - there > free:
        raise StoreError(
            f"the disk is too full for {location}: {wanted - there:,} bytes are needed, "
            f"{free:,} are free"
        )


def _file_bytes(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0  # Another process renamed its temporary file just now.


def store_plan(location: str, manifest: Manifest, share: Sequence[Unit] | None = None) -> list[str]:
    """Describe what making a store, or a share of its units, will take, in lines.

    Raises:
        StoreError: another store lies there.
    """
    _require_same_work(location, manifest)
    units, size = len(all_units(manifest)), store_bytes(manifest)
    present = units_present(location, manifest)
    rows = manifest.views * manifest.dataset.samples
    lines = [
        f"  {manifest.views:,} views of {manifest.dataset.samples:,} samples: {rows:,} rows",
        f"  {units:,} units of {manifest.rows_per_chunk:,} rows, {units - present:,} lacking",
        f"  {size:,} bytes as {manifest.encoding}; {free_bytes(Path(location)):,} are free",
    ]
    if share is not None:
        lacking = len(share) - units_present(location, manifest, share)
        lines.append(f"  this part takes {len(share):,} of the units, {lacking:,} lacking")
    return lines
