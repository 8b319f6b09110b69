"""Small datasets of real formats, and the stores that hold their views."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from logitbank.pipeline.datasets.folders import FolderDataset, folder_dataset
from logitbank.pipeline.datasets.in_memory import MemoryDataset
from logitbank.pipeline.views import Augmentation, CifarWeak, ImagenetWeak, ViewRenderer, pixel_crc
from logitbank.stores.corrections.ranking import top_classes
from logitbank.stores.layout import Unit, block_bounds
from logitbank.stores.manifest import (
    AugmentationIdentity,
    DatasetIdentity,
    Manifest,
    Provenance,
    TeacherIdentity,
)
from logitbank.stores.writer import StoreWriter

CLASSES, ROWS, SEED = 3, 16, 5


def random_images(count: int, side: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def memory_dataset(count: int = 40, side: int = 8, seed: int = 0) -> MemoryDataset:
    """Random square images in memory, of three classes."""
    targets = np.arange(count) % CLASSES
    images = random_images(count, side, seed)
    return MemoryDataset("hdf5", "train", images, targets, ("a", "b", "c"), "random.h5")


class PillowItems:
    """A user's own dataset: items alone, of Pillow images."""

    def __init__(self, images, targets):
        self.images_, self.targets_ = images, targets

    def __len__(self):
        return len(self.images_)

    def __getitem__(self, sample):
        return Image.fromarray(self.images_[sample]), int(self.targets_[sample])


def write_photos(root: Path, per_class: int = 4) -> Path:
    """Write PNG files of several sizes in three class folders."""
    for number in range(CLASSES * per_class):
        folder = root / "abc"[number // per_class]
        folder.mkdir(parents=True, exist_ok=True)
        sides = (20 + number, 31 - number % 5, 3)
        pixels = np.random.default_rng(number).integers(0, 256, sides, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return root


def file_dataset(root: Path) -> FolderDataset:
    """Open the photos, written where they aren't there yet."""
    return folder_dataset("imagefolder", "train", root if root.exists() else write_photos(root))


def augmentation_for(dataset: Any) -> Augmentation:
    """The weak augmentation of a small dataset."""
    return CifarWeak(size=8, pad=1) if dataset.images is not None else ImagenetWeak(size=12)


def write_store(
    path: Path,
    dataset: Any,
    views: int = 3,
    augmentation: Augmentation | None = None,
    **changed: Any,
) -> Path:
    """Write and seal a store of a dataset's views.

    Args:
        augmentation: the weak one for the dataset where there is none.
        changed: `view_params` or `pixel_crc`, a function of (view, what was drawn or computed).
    """
    augmentation = augmentation or augmentation_for(dataset)
    renderer = ViewRenderer(dataset, augmentation)
    manifest = _manifest(dataset, augmentation, views)
    writer = StoreWriter.open(path, manifest, dataset.targets, dataset.sample_ids)
    for unit in writer.missing:
        samples = np.arange(*block_bounds(manifest, unit.block))
        writer.write_unit(unit, _values(renderer, unit, samples, changed))
    writer.seal()
    return path


def _values(
    renderer: ViewRenderer, unit: Unit, samples: np.ndarray, changed: dict[str, Any]
) -> dict[str, np.ndarray]:
    pixels, params = renderer.draw(SEED, unit.view, samples)
    logits = np.random.default_rng(unit.view).normal(size=(len(samples), CLASSES))
    logits = logits.astype(np.float32)
    values = {
        "view_params": params,
        "pixel_crc": pixel_crc(pixels),
        "top": top_classes(logits, renderer.dataset.targets[samples], CLASSES),
        "logits": logits,
    }
    for name, change in changed.items():
        values[name] = change(unit.view, samples, values[name])
    return values


def _manifest(dataset: Any, augmentation: Augmentation, views: int) -> Manifest:
    return Manifest(
        kind="raw",
        dataset=DatasetIdentity(
            dataset.name, dataset.split, len(dataset), CLASSES, dataset.fingerprint
        ),
        augmentation=AugmentationIdentity(
            augmentation.name,
            augmentation.parameters,
            augmentation.columns,
            augmentation.dtype,
            augmentation.size,
            SEED,
        ),
        views=views,
        encoding="float32",
        rows_per_chunk=min(ROWS, len(dataset)),
        top_classes=CLASSES,
        teacher=TeacherIdentity(
            "cifar:resnet8", "a" * 64, (0.5,) * 3, (0.5,) * 3, augmentation.size, "float32", 64, "x"
        ),
        provenance=Provenance(versions={"pillow": "10.0.0"}),
    )
