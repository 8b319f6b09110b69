"""What making a store takes: how many units, how many bytes, and whether the disk has room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from logitbank.stores.documents import CRC_GROUP_KEY, ROOT_KEY, UNFINISHED_KEY, read_manifest
from logitbank.stores.errors import StoreError
from logitbank.stores.files import FILE, AbsentError, Files
from logitbank.stores.housekeeping.contents import describe_contents
from logitbank.stores.layout import Unit, all_units, ledger_array, store_arrays, unit_index
from logitbank.stores.manifest import Manifest, identity_differences


def require_store_place(files: Files) -> None:
    """Check that a place is free or already holds a store, before any work.

    Raises:
        StoreError: it holds something else.
    """
    if any(files.exists(key) for key in (ROOT_KEY, CRC_GROUP_KEY, UNFINISHED_KEY)):
        return
    if not (files.is_free() and _is_absent(files)):
        raise StoreError(
            f"{files.where} is not a store: it contains {describe_contents(files)}; name another "
            "--out"
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
        return  # Missing or damaged: opening it for writing decides whether it can be mended.
    differences = identity_differences(found, wanted)
    if differences and found.seal in (None, found.seal_value()):
        raise StoreError(
            f"{files.where} holds other work: {'; '.join(differences)}. Name another --out"
        )


def store_bytes(manifest: Manifest) -> int:
    """Return the bytes of all chunks of a store; an upper bound if some are compressed."""
    return sum(
        spec.max_chunk_bytes * len(list(spec.indices())) for spec in store_arrays(manifest).values()
    )


def units_present(files: Files, manifest: Manifest, units: Iterable[Unit] | None = None) -> int:
    """Count the units, of all or of those given, whose last chunk exists; bytes are not checked."""
    ledger = ledger_array(store_arrays(manifest))
    return sum(
        files.exists(ledger.chunk_key(unit_index(ledger, unit)), fresh=True)
        for unit in (all_units(manifest) if units is None else units)
    )


def require_room(files: Files, wanted: int) -> None:
    """Check that the rest of a store fits on its disk.

    Raises:
        StoreError: it doesn't fit (both sizes are named), or no store can be made there.
    """
    files.is_free()
    there = sum(entry.size for entry in files.list() or () if entry.kind == FILE)
    free = files.free_bytes()
    if free is not None and wanted - there > free:
        raise StoreError(
            f"the disk is too full for {files.where}: {wanted - there:,} bytes are needed, "
            f"{free:,} are free"
        )


def store_plan(files: Files, manifest: Manifest, share: Sequence[Unit] | None = None) -> list[str]:
    """Return lines that describe what making a store, or a share of its units, will take.

    Raises:
        StoreError: the place holds a different store.
    """
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
