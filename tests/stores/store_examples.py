"""Small stores for tests: what a teacher stage would write, from a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from logitbank.stores.corrections.ranking import top_classes
from logitbank.stores.encodings import encoding_named
from logitbank.stores.layout import Unit, block_bounds
from logitbank.stores.manifest import (
    AugmentationIdentity,
    DatasetIdentity,
    Manifest,
    TeacherIdentity,
)
from logitbank.stores.writer import StoreWriter

SAMPLES, CLASSES, VIEWS, ROWS = 10, 7, 3, 4


def manifest(**changes: object) -> Manifest:
    """The manifest of a store of 3 views, 10 samples in blocks of 4, 7 classes."""
    fields: dict = {
        "kind": "raw",
        "dataset": DatasetIdentity("digits", "train", SAMPLES, CLASSES, "f" * 64),
        "augmentation": AugmentationIdentity(
            "cifar-weak",
            {"pad": 4, "flip": True, "size": 32},
            ("dy", "dx", "flip"),
            "int16",
            32,
            0,
        ),
        "views": VIEWS,
        "encoding": "float16",
        "rows_per_chunk": ROWS,
        "top_classes": CLASSES,
        "teacher": TeacherIdentity(
            "cifar:resnet8",
            "a" * 64,
            (0.5, 0.5, 0.5),
            (0.25, 0.25, 0.25),
            32,
            "float32",
            64,
            "contiguous",
        ),
    }
    return Manifest(**(fields | changes))


def target() -> np.ndarray:
    return (np.arange(SAMPLES) % CLASSES).astype(np.int32)


def sample_id() -> np.ndarray:
    return np.arange(100, 100 + SAMPLES, dtype=np.uint64)


def logits_of(view: int) -> np.ndarray:
    rng = np.random.default_rng(view)
    return rng.normal(size=(SAMPLES, CLASSES)).astype(np.float32).round(2)


def unit_values(wanted: Manifest, unit: Unit) -> dict[str, np.ndarray]:
    start, stop = block_bounds(wanted, unit.block)
    logits = logits_of(unit.view)[start:stop]
    rows = np.arange(start, stop)
    return {
        "view_params": np.stack([rows, rows * 0 + unit.view, rows % 2], axis=1).astype(np.int16),
        "pixel_crc": (rows * 1000 + unit.view).astype(np.uint32),
        "top": top_classes(logits, target()[start:stop], wanted.top_classes),
        **encoding_named(wanted.encoding).encode(logits),
    }


def open_writer(path: Path, wanted: Manifest | None = None) -> StoreWriter:
    return StoreWriter.open(path, wanted or manifest(), target(), sample_id())


def write_store(path: Path, wanted: Manifest | None = None) -> Manifest:
    """Make, or go on with, a whole store and seal it."""
    wanted = wanted or manifest()
    writer = open_writer(path, wanted)
    if writer.complete:
        return writer.manifest
    for unit in writer.missing:
        writer.write_unit(unit, unit_values(wanted, unit))
    return writer.seal()


def files_of(path: Path) -> dict[str, bytes]:
    """Every file of a folder, by key."""
    files = (file for file in sorted(path.rglob("*")) if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}
