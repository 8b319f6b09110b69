"""What the stateful test knows of a store without asking it: NumPy arrays, and files as bytes."""

# Which errors may come depends on what is damaged: `pytest.raises` can't say so.
# ruff: noqa: PT017

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch

from logitbank.stores.encodings import encoding_named
from logitbank.stores.errors import StoreError
from logitbank.stores.files import LocalFiles
from logitbank.stores.layout import (
    Unit,
    all_units,
    block_bounds,
    store_arrays,
    unit_arrays,
    unit_index,
)
from logitbank.stores.manifest import DatasetIdentity, Manifest
from logitbank.stores.reader import Store
from logitbank.stores.slab import SlabLoader
from logitbank.stores.writer import StoreWriter
from tests.stores.store_examples import (
    CLASSES,
    SAMPLES,
    files_of,
    manifest,
    sample_id,
    target,
    unit_values,
    write_store,
)

CPU = torch.device("cpu")
BESIDE_LOGITS = ("view_params", "pixel_crc", "top")
MANIFEST, COPY, WITNESS = "zarr.json", "crc/zarr.json", "unfinished/zarr.json"


class KilledError(BaseException):
    """The process ends here: nothing of ours catches it, as nothing catches a kill."""


@dataclass
class Fuse:
    """Ends a process at one of its operations on files; `left` counts those that still happen."""

    left: int = 10**9
    lock: Any = field(default_factory=threading.Lock, repr=False)

    def burn(self) -> None:
        with self.lock:
            self.left -= 1
            if self.left < 0:
                raise KilledError


class MortalFiles(LocalFiles):
    """A folder whose writer is killed when the fuse is burnt, in the middle of a file."""

    def __init__(self, root: Path, fuse: Fuse) -> None:
        # Nothing is flushed: what a power loss takes is another test's.
        super().__init__(root)
        self.fuse = fuse

    def put_all(self, contents: Mapping[str, Sequence[Any]]) -> None:
        for key, parts in contents.items():
            try:
                self.fuse.burn()
            except KilledError:
                if self.fuse.left == -1:
                    self._leave_partial(key, parts)
                raise
            super().put_all({key: parts})

    def delete(self, key: str) -> None:
        self.fuse.burn()
        super().delete(key)

    def sync(self, keys: Sequence[str]) -> None:
        self.fuse.burn()

    def as_durable(self) -> MortalFiles:
        return self

    def _leave_partial(self, key: str, parts: Sequence[Any]) -> None:
        data = b"".join(bytes(memoryview(part).cast("B")) for part in parts)
        partial = self.path(f"{key}.{uuid.uuid4().hex}.partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data[: len(data) // 2])


def open_mortal(path: Path, wanted: Manifest, fuse: Fuse) -> StoreWriter:
    """Open a writer whose every file goes through the fuse."""
    return StoreWriter.open(MortalFiles(path, fuse), wanted, target(), sample_id())


@dataclass(frozen=True)
class StoreModel:
    """What a store of an encoding must hold.

    `files` are the bytes of a store that was written in one go, by key, the manifest's left out.
    `arrays` are the (V, N, ...) rows, `logits` the decoded ones among them.
    """

    wanted: Manifest
    digest: str
    files: Mapping[str, bytes]
    foreign: Mapping[str, bytes]
    rows: Mapping[str, np.ndarray]
    logits: np.ndarray

    @property
    def units(self) -> list[Unit]:
        return all_units(self.wanted)

    def unit_keys(self, unit: Unit) -> list[str]:
        specs = unit_arrays(store_arrays(self.wanted))
        return [spec.chunk_key(unit_index(spec, unit)) for spec in specs]

    def damaged(self, path: Path) -> set[str]:
        """The keys, the manifest's left out, whose files are not as they were sealed."""
        there = files_of(path)
        return {key for key, data in self.files.items() if not same(key, there.get(key), data)}

    def damaged_units(self, path: Path) -> list[Unit]:
        damaged = self.damaged(path)
        return [unit for unit in self.units if damaged.intersection(self.unit_keys(unit))]

    def misplaced(self, path: Path) -> set[str]:
        """The damaged keys that hold a good chunk of another place or store."""
        good = {*self.files.values(), *self.foreign.values()}
        there = files_of(path)
        return {key for key in self.damaged(path) if there.get(key) in good}

    def strays(self, path: Path) -> set[str]:
        """The keys of files that are no part of the store."""
        return files_of(path).keys() - self.files.keys() - {MANIFEST, WITNESS}

    def corrected(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The logits and the order of their classes after sort or swap, written plainly.

        All classes are in `top` here, so that the order is known where values are equal.
        """
        logits, tops = self.logits.copy(), self.rows["top"].copy()
        for view, sample in np.ndindex(logits.shape[:2]):
            label, order = int(target()[sample]), [int(c) for c in tops[view, sample]]
            values = logits[view, sample, order]
            if name == "sort":
                order = [label, *(each for each in order if each != label)]
            else:
                place = order.index(label)
                order[0], order[place] = order[place], order[0]
            logits[view, sample, order], tops[view, sample] = values, order
        return logits, tops


@cache
def model_of(encoding: str) -> StoreModel:
    """Build the model of an encoding's store: 2 views of 10 samples in blocks of 4."""
    wanted = manifest(views=2, encoding=encoding)
    with TemporaryDirectory() as folder:
        raw, other = Path(folder) / "raw.zarr", Path(folder) / "other.zarr"
        digest = write_store(raw, wanted).digest
        write_other(other, wanted)
        files, foreign = files_of(raw), files_of(other)
    assert digest is not None
    del files[MANIFEST]
    views = []
    for view in range(wanted.views):
        units = [unit_values(wanted, unit) for unit in all_units(wanted) if unit.view == view]
        views.append({name: np.concatenate([u[name] for u in units]) for name in units[0]})
    rows = {name: np.stack([view[name] for view in views]) for name in views[0]}
    logits = np.stack([decoded(encoding, view) for view in views])
    return StoreModel(wanted, digest, files, foreign, rows, logits)


def write_other(path: Path, wanted: Manifest) -> None:
    """Write a store of the same layout and of other rows, whose chunks are good elsewhere."""
    dataset = DatasetIdentity("digits", "test", SAMPLES, CLASSES, "e" * 64)
    other = manifest(views=2, encoding=wanted.encoding, dataset=dataset)
    writer = StoreWriter.open(path, other, target(), sample_id())
    for unit in writer.missing:
        # As many rows, of the view after the last.
        values = unit_values(wanted, Unit(wanted.views + unit.view, unit.block))
        writer.write_unit(unit, values)
    writer.seal()


def decoded(encoding: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Decode (B, ...) rows of an encoding's arrays: all but those that every store has."""
    codes = {name: rows for name, rows in values.items() if name not in BESIDE_LOGITS}
    return encoding_named(encoding).decode(codes)


def same(key: str, found: bytes | None, wanted: bytes) -> bool:
    """Say whether a file says what it should; documents may be spaced in another way."""
    if found is None or found == wanted or not key.endswith(".json"):
        return found == wanted
    try:
        return json.loads(found) == json.loads(wanted)
    except ValueError:
        return False


Word = Literal["complete", "incomplete", "edited", "unreadable"]


def manifest_word(path: Path, wanted: Manifest) -> Word:
    """Say what a manifest is by its bytes: as it was sealed, unfinished, or damaged and how."""
    try:
        attributes = json.loads((path / MANIFEST).read_bytes())["attributes"]
        found = Manifest.from_attributes(attributes, "")
    except (OSError, ValueError, TypeError, KeyError, StoreError):
        return "unreadable"
    if found.identity() != wanted.identity():
        return "edited"
    if found.status != "complete":
        return "incomplete"
    return "complete" if found.seal == found.seal_value() else "edited"


def require_right_rows(
    model: StoreModel,
    store: Store,
    raw: Path,
    rows: Mapping[str, np.ndarray],
    logits: np.ndarray,
) -> None:
    """Require blocks and slabs to be these rows; what is damaged in the raw store is refused."""
    damaged = model.damaged(raw)
    for unit in model.units:
        keys = dict(zip(model.rows, model.unit_keys(unit), strict=True))
        bounds = slice(*block_bounds(model.wanted, unit.block))
        for name, wanted in rows.items():
            # To correct `top`, the reader needs the logits as well.
            needed = damaged.intersection(keys.values() if name == "top" else [keys[name]])
            try:
                found = store.read_unit(name, unit)
            except StoreError as error:
                assert any(key in str(error) for key in needed), error
            else:
                np.testing.assert_array_equal(found, wanted[unit.view, bounds])
    loader = SlabLoader(store)
    for view in range(model.wanted.views):
        try:
            slab = loader.load(view, None, CPU)
        except StoreError as error:
            assert any(key in str(error) for key in damaged), error
        else:
            np.testing.assert_array_equal(slab[slab.rows].numpy(), logits[view])
