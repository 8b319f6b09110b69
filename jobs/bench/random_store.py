"""A store of random logits over random images, for timing students."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from logitbank.pipeline.datasets.in_memory import MemoryDataset
from logitbank.pipeline.models import LoadedModel
from logitbank.pipeline.teacher import CacheSettings, raw_manifest
from logitbank.pipeline.views import CifarWeak
from logitbank.pipeline.views.rendering.renderer import ViewRenderer, pixel_crc
from logitbank.stores.corrections.ranking import top_classes
from logitbank.stores.encodings import encoding_named
from logitbank.stores.layout import block_bounds
from logitbank.stores.writer import StoreWriter

SIDE = 32
LOGIT_STD = 4.0


def random_dataset(samples: int, classes: int, seed: int = 0) -> MemoryDataset:
    """Return random images with random labels, 32 x 32 like CIFAR's."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (samples, SIDE, SIDE, 3), np.uint8)
    targets = rng.integers(0, classes, samples).astype(np.int32)
    names = tuple(map(str, range(classes)))
    return MemoryDataset("random", "train", images, targets, names, "random images")


def write_random_store(
    path: Path, dataset: MemoryDataset, teacher: LoadedModel, settings: CacheSettings
) -> None:
    """Write and seal a store with normally distributed logits in place of the teacher's.

    Views, checksums, chunks and tables are as `cache` makes them, so that a student trains from it
    with all of its checks.
    """
    augmentation = CifarWeak()
    manifest = raw_manifest(dataset, teacher, augmentation, settings)
    writer = StoreWriter.open(path, manifest, dataset.targets, dataset.sample_ids)
    renderer = ViewRenderer(dataset, augmentation)
    encoding = encoding_named(settings.encoding)
    rng = np.random.default_rng(settings.seed)
    for unit in writer.missing:
        samples = np.arange(*block_bounds(manifest, unit.block))
        pixels, params = renderer.draw(settings.seed, unit.view, samples)
        shape = (len(samples), len(dataset.classes))
        logits = (rng.standard_normal(shape) * LOGIT_STD).astype(np.float32)
        values = {
            "view_params": params,
            "pixel_crc": pixel_crc(pixels),
            "top": top_classes(logits, dataset.targets[samples], manifest.top_classes),
            **encoding.encode(logits),
        }
        writer.write_unit(unit, values)
    writer.seal()
