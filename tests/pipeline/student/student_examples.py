"""Small datasets, teachers, stores and runs for the tests of the student stage."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from logitbank.pipeline.correct import CorrectionTask
from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.datasets.in_memory import MemoryDataset
from logitbank.pipeline.models import LoadedModel, load_model
from logitbank.pipeline.models.checkpoints import DESCRIPTION
from logitbank.pipeline.models.normalisation import CIFAR
from logitbank.pipeline.soft_labels import SoftLabels
from logitbank.pipeline.store_task import fill_store
from logitbank.pipeline.student import TrainConfig, train
from logitbank.pipeline.student.run_folder import Metrics
from logitbank.pipeline.teacher import CacheSettings, TeacherTask
from logitbank.pipeline.views import parse_augmentation

CLASSES = 7
BATCH = 50


def small_dataset(samples: int = 120, *, split: str = "train", seed: int = 0) -> MemoryDataset:
    """Random images of 32 x 32 whose brightness tells their class."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, CLASSES, samples).astype(np.int32)
    noise = generator.integers(0, 120, (samples, 32, 32, 3))
    images = (noise + targets[:, None, None, None] * 20).astype(np.uint8)
    names = tuple(f"class {number}" for number in range(CLASSES))
    return MemoryDataset("digits", split, images, targets, names, f"small {split}")


def small_teacher(folder: Path, classes: int = CLASSES, *, seed: int = 1) -> LoadedModel:
    """A network with weights of its own, by way of a checkpoint."""
    torch.manual_seed(seed)
    untrained = load_model("cifar:resnet8", classes=classes, normalisation=CIFAR)
    path = folder / f"teacher-{classes}-{seed}.pt"
    state = untrained.module.state_dict()
    torch.save({"model": state, DESCRIPTION: untrained.description()}, path)
    return load_model(f"cifar:resnet8@{path}", classes=classes, pretrained=True)


def small_store(
    path: Path,
    dataset: ImageDataset,
    teacher: LoadedModel,
    *,
    augmentation: str = "cifar-weak",
    views: int = 3,
    encoding: str = "float32",
    seed: int = 0,
) -> SoftLabels:
    """A finished raw store of a dataset."""
    drawn = parse_augmentation(augmentation, size=teacher.input_size, samples=len(dataset))
    settings = CacheSettings(
        views, seed=seed, encoding=encoding, batch_size=64, block_rows=48, workers=1
    )
    fill_store(TeacherTask.of(dataset, teacher, drawn, settings, str(path)))
    return SoftLabels.open(path)


def small_pair(
    folder: Path, dataset: ImageDataset, teacher: LoadedModel, *, weak: int = 3, strong: int = 2
) -> tuple[SoftLabels, SoftLabels]:
    """Stores of so many weak and strong views; the strong ones are shifted less, and by a seed."""
    small_store(folder / "weak.zarr", dataset, teacher, views=weak)
    small_store(
        folder / "strong.zarr",
        dataset,
        teacher,
        augmentation="cifar-weak:pad=2",
        views=strong,
        seed=5,
    )
    return SoftLabels.open_pair(folder / "weak.zarr", folder / "strong.zarr")


def corrected(soft: SoftLabels, name: str, path: Path) -> SoftLabels:
    """A finished corrected store of a raw one."""
    fill_store(CorrectionTask.of(soft.store, name, str(path)))
    return SoftLabels.open(path)


def small_config(**changes: Any) -> TrainConfig:
    """Two epochs of a small student."""
    usual: dict[str, Any] = {
        "student": "cifar:resnet8",
        "epochs": 2,
        "batch_size": BATCH,
        "device": "cpu",
        "threads": 2,
        "workers": 0,
    }
    return TrainConfig(**usual | changes)


def losses_of(config: TrainConfig, dataset: ImageDataset, out: Path, **learned: Any) -> list[float]:
    """Train and give the loss of every step."""
    losses: list[float] = []
    train(config, dataset, out=out, on_step=lambda step, loss: losses.append(loss), **learned)
    return losses


def weights_of(out: Path, name: str = "last.pt") -> dict[str, torch.Tensor]:
    """The network's state in a run's checkpoint."""
    return torch.load(out / name, weights_only=True)["model"]


def same_weights(one: Path, other: Path, name: str = "last.pt") -> bool:
    """Tell whether two runs ended with the same bits."""
    a, b = weights_of(one, name), weights_of(other, name)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def timeless(metrics: tuple[Metrics, ...] | list[Metrics]) -> list[Metrics]:
    """Metrics without what a clock measured."""
    return [{k: v for k, v in epoch.items() if k != "images_per_second"} for epoch in metrics]


def relabelled(dataset: MemoryDataset, **changes: Any) -> MemoryDataset:
    """A copy of a dataset with other fields, its ids and fingerprint computed anew."""
    return dataclasses.replace(dataset, **changes)
