"""What a job is about to do: how many units, how many bytes, and whether there is room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from logitbank.stores.documents import CRC_GROUP_KEY, ROOT_KEY, UNFINISHED_KEY, read_manifest
from logitbank.stores.errors import StoreError
from logitbank.stores.files import FILE, AbsentError, Files, open_files
from logitbank.stores.housekeeping.contents import describe_contents
from logitbank.stores.layout import Unit, all_units, ledger_array, store_arrays, unit_index
from logitbank.stores.manifest import Manifest, identity_differences


def require_store_place(location: str | Path) -> None:
    """Check that a store can be made at a path, or that one lies there, before any work.

    Raises:
        StoreError: something else lies there.
    """
    files = open_files(location)
    if any(files.exists(key) for key in (ROOT_KEY, CRC_GROUP_KEY, UNFINISHED_KEY)):
        return
    if not (files.is_free() and _is_absent(files)):
        raise StoreError(
            f"{files.where} is not a store: it holds {describe_contents(files)}; name another --out"
        )


def _is_absent(files: Files) -> bool:
    try:
        files.require_exists()
    except AbsentError:
        return True
    return False


def _require_same_work(files: Files, wanted: Manifest) -> None:
    try:
        found = read_manifest(files)
    except StoreError:
        return  # None is there, or it is damaged: whether it can be mended shows when it is opened.
    differences = identity_differences(found, wanted)
    if differences and found.seal in (None, found.seal_value()):
        raise StoreError(
            f"{files.where} holds other work: {'; '.join(differences)}. Name another --out"
        )


def store_bytes(manifest: Manifest) -> int:
    """Return the bytes that all chunks of a store take, at most where some are compressed."""
    return sum(
        spec.max_chunk_bytes * len(list(spec.indices())) for spec in store_arrays(manifest).values()
    )


def units_present(
    location: str | Path | Files, manifest: Manifest, units: Iterable[Unit] | None = None
) -> int:
    """Count the units whose last chunk is there, of all or of some; bytes are not checked."""
    ledger = ledger_array(store_arrays(manifest))
    files = open_files(location)
    return sum(
        files.exists(ledger.chunk_key(unit_index(ledger, unit)), fresh=True)
        for unit in (all_units(manifest) if units is None else units)
    )


def require_room(location: str | Path, wanted: int) -> None:
    """Check that a store fits on its disk, beside what is there of it already.

    Raises:
        StoreError: it doesn't; both sizes are named. Or its place can hold no store at all.
    """
    files = open_files(location)
    files.is_free()
    there = sum(entry.size for entry in files.list() or () if entry.kind == FILE)
    free = files.free_bytes()
    if free is not None and wanted - there > free:
        raise StoreError(
            f"the disk is too full for {files.where}: {wanted - there:,} bytes are needed, "
            f"{free:,} are free"
        )


def store_plan(location: str, manifest: Manifest, share: Sequence[Unit] | None = None) -> list[str]:
    """Describe what making a store, or a share of its units, will take, in lines.

    Raises:
        StoreError: another store lies there.
    """
    files = open_files(location)
    _require_same_work(files, manifest)
    units, size, free = len(all_units(manifest)), store_bytes(manifest), files.free_bytes()
    present = units_present(files, manifest)
    rows = manifest.views * manifest.dataset.samples
    is_exact = all(spec.chunk_bytes is not None for spec in store_arrays(manifest).values())
    most = "" if is_exact else "at most "
    room = "" if free is None else f"; {free:,} are free"
    lines = [
        f"  {manifest.views:,} views of {manifest.dataset.samples:,} samples: {rows:,} rows",
        f"  {units:,} units of {manifest.rows_per_chunk:,} rows, {units - present:,} missing",
        f"  {most}{size:,} bytes as {manifest.encoding}{room}",
    ]
    if share is not None:
        missing = len(share) - units_present(files, manifest, share)
        lines.append(f"  this part takes {len(share):,} of the units, {missing:,} missing")
    return lines
