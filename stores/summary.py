"""A readable summary of a store, from its manifest and its files' sizes."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from logitbank.stores.documents import check_seal, read_manifest
from logitbank.stores.encodings import encoding_named
from logitbank.stores.errors import StoreError
from logitbank.stores.files import FILE, Files, files_at
from logitbank.stores.layout import (
    ArraySpec,
    Unit,
    store_arrays,
    unit_arrays,
    unit_index,
)
from logitbank.stores.manifest import Manifest
from logitbank.stores.parent import parent_of, require_no_parent
from logitbank.stores.virtual import check_virtual


@dataclass(frozen=True)
class Summary:
    """What `inspect` prints.

    `units_present` counts the units whose chunks exist, for a virtual store in its parent; it and
    `stored_bytes` are None if files can't be listed, as behind a URL. `parent` is where a virtual
    store's parent was found, `parent_problem` why it was not.
    """

    location: str
    manifest: Manifest
    units: int
    units_present: int | None
    stored_bytes: int | None
    parent: str | None = None
    parent_problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON-serialisable values."""
        fields = asdict(self)
        return fields | {"manifest": self.manifest.to_attributes()}


def summarise(location: str | Path | Files, *, parent: str | Path | None = None) -> Summary:
    """Summarise a store; its chunks are counted by file size, not checked.

    Args:
        location: path or URL, or the opened files.
        parent: where the parent of a virtual store is, if it has moved.

    Raises:
        StoreError: there is no store, or its manifest can't be read or was edited.
        UsageError: a parent is named for a store that is not virtual.
    """
    files = files_at(location)
    manifest = read_manifest(files)
    unit_files, found, problem = files, None, None
    if manifest.kind == "virtual":
        check_virtual(files, manifest)
        try:
            found = parent_of(files, manifest, parent)
            unit_files = files_at(found)
            found = unit_files.where
        except StoreError as error:
            problem = str(error)
    else:
        require_no_parent(files, manifest, parent)
        if manifest.status == "complete":
            check_seal(files, manifest)
    blocks = -(-manifest.dataset.samples // manifest.rows_per_chunk)
    sizes = _sizes(files)
    unit_sizes = sizes if unit_files is files else _sizes(unit_files)
    size = None if sizes is None else sum(sizes.values())
    present = None if unit_sizes is None or problem else _present(manifest, unit_sizes)
    units = manifest.views * blocks
    return Summary(files.where, manifest, units, present, size, found, problem)


def _sizes(files: Files) -> dict[str, int] | None:
    """Return the sizes of all files by key, None if they can't be listed."""
    entries = files.list()
    if entries is None:
        return None
    return {entry.key: entry.size for entry in entries if entry.kind == FILE}


def _present(manifest: Manifest, sizes: dict[str, int]) -> int:
    """Return the number of units whose chunks all exist and have the right size."""
    found = [_units_of(spec, sizes) for spec in unit_arrays(store_arrays(manifest))]
    return len(set.intersection(*found))


def _units_of(spec: ArraySpec, sizes: dict[str, int]) -> set[Unit]:
    """Return the units with a chunk in one array, from the existing files: units may be many."""
    place = re.compile(rf"{spec.name}/c/([0-9]{{1,9}})/([0-9]{{1,9}})(/0)*")
    units = set()
    for key, size in sizes.items():
        found = place.fullmatch(key)
        if found is not None and spec.allows_size(size):
            unit = Unit(int(found[1]), int(found[2]))
            inside = unit.view < spec.grid[0] and unit.block < spec.grid[1]
            if inside and key == spec.chunk_key(unit_index(spec, unit)):
                units.add(unit)
    return units


def summary_lines(summary: Summary) -> list[str]:
    """Return the lines of the summary."""
    manifest = summary.manifest
    return [
        f"{summary.location}: {_kind(manifest)}, {_completeness(summary)}",
        *_work_lines(manifest),
        *_size_lines(summary),
        *_accuracy_lines(manifest),
        *_provenance_lines(manifest),
        *_parent_lines(summary),
    ]


def _kind(manifest: Manifest) -> str:
    if manifest.correction is None:
        return "raw logits"
    temperature = manifest.correction.temperature
    at = "" if temperature is None else f" at temperature {temperature:g}"
    how = " as they are read (virtual)" if manifest.kind == "virtual" else ""
    return f"logits corrected by {manifest.correction.name}{at}{how}"


def _completeness(summary: Summary) -> str:
    present, is_complete = summary.units_present, summary.manifest.status == "complete"
    if is_complete and present in (None, summary.units):
        return "complete"
    count = "?" if present is None else f"{present:,}"
    units = f"{count} of {summary.units:,} units are present"
    return f"sealed as complete, but {units}" if is_complete else f"incomplete ({units})"


def _work_lines(manifest: Manifest) -> list[str]:
    dataset, augmentation, teacher = manifest.dataset, manifest.augmentation, manifest.teacher
    given = ", ".join(f"{name}={value}" for name, value in augmentation.parameters.items())
    return [
        f"  dataset       {dataset.name} {dataset.split}: {dataset.samples:,} samples, "
        f"{dataset.classes:,} classes (fingerprint {dataset.fingerprint[:12]})",
        f"  views         {manifest.views:,} of {augmentation.name} ({given}), "
        f"seed {augmentation.seed}",
        f"  teacher       {teacher.spec} (weights {teacher.state_sha256[:12]}), {teacher.precision}"
        f", {teacher.input_size} x {teacher.input_size}, batches of {teacher.batch_size}",
    ]


def _size_lines(summary: Summary) -> list[str]:
    manifest = summary.manifest
    rows = manifest.views * manifest.dataset.samples
    size = "" if summary.stored_bytes is None else f", {_bytes(summary.stored_bytes)} on disk"
    encoding = encoding_named(manifest.encoding).describe(manifest.dataset.classes)
    return [
        f"  rows          {rows:,} as {encoding}, {summary.units:,} units of "
        f"{manifest.rows_per_chunk:,} rows{size}"
    ]


def _accuracy_lines(manifest: Manifest) -> list[str]:
    measured = manifest.measured
    lines = []
    if measured.clean_top1 is not None:
        lines.append(
            f"  teacher top-1 {measured.clean_top1:.2f}%, top-5 {measured.clean_top5:.2f}% on "
            f"centre crops of {measured.clean_samples:,} {measured.clean_split} samples"
        )
    if not measured.label_ranks:
        return lines
    rows, wrong = sum(measured.label_ranks), sum(measured.label_ranks[1:])
    is_mixed = manifest.augmentation.is_mixed
    label = "the larger share's label" if is_mixed else "the label"
    lines.append(
        f"  these rows    top-1 {measured.top1:.2f}%, top-5 {measured.top5:.2f}%: {label} is not "
        f"first in {wrong:,} of {rows:,} rows"
    )
    if wrong:
        lines.append(f"  wrong rows    label ranks {_ranks(measured.label_ranks, wrong)}")
    return lines


def _ranks(counts: tuple[int, ...], wrong: int) -> str:
    shares = [
        f"{rank + 1}: {100 * count / wrong:.1f}%"
        for rank, count in enumerate(counts[:-1])
        if rank and count
    ]
    beyond = [f"beyond {len(counts) - 1}: {100 * counts[-1] / wrong:.1f}%"] if counts[-1] else []
    return ", ".join(shares + beyond)


def _provenance_lines(manifest: Manifest) -> list[str]:
    provenance = manifest.provenance
    versions = ", ".join(f"{name} {number}" for name, number in provenance.versions.items())
    lines = [f"  made          {provenance.created} on {provenance.device} with {versions}"]
    if manifest.correction is not None:
        lines.append(
            f"  parent        {' or '.join(provenance.parent_places) or provenance.parent} "
            f"(digest {manifest.correction.parent_digest[:12]})"
        )
    if manifest.digest is not None:
        lines.append(f"  digest        {manifest.digest} (sealed {provenance.sealed})")
    return lines


def _parent_lines(summary: Summary) -> list[str]:
    """Return the line on where a virtual store's rows come from, or why they can't be read."""
    if summary.parent is not None:
        present = summary.units_present
        units = "" if present is None else f": {present:,} of {summary.units:,} units are present"
        return [f"  reads         {summary.parent}{units}"]
    if summary.parent_problem is not None:
        return [f"  can't be read {summary.parent_problem}"]
    return []


def _bytes(count: int) -> str:
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
