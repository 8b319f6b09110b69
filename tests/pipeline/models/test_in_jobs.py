"""Each family of networks as a teacher that is cached, as a student, and evaluated, on digits."""

from __future__ import annotations

import json
import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from logitbank.pipeline.datasets import open_dataset
from logitbank.pipeline.models import load_model
from tests.jobs.command import done

CLASSES = 10
SPLITS = ("train", "test")
SIDE = 32

SPECS = (
    "cifar:resnet8",
    "cifar:wrn_16_1",
    "cifar:vgg8",
    "cifar:MobileNetV2",
    "cifar:ShuffleV1",
    "cifar:ShuffleV2",
    "cifar:ResNet50",
    "imagenet:MobileNetV1",
    "timm:test_resnet",
)


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> str:
    """The first digit of each class, so few that a large network is quick."""
    folder = tmp_path_factory.mktemp("digits")
    for split in SPLITS:
        dataset = open_dataset("digits", split)
        chosen = np.sort(np.unique(dataset.targets, return_index=True)[1])
        with h5py.File(folder / f"{split}.h5", "w") as file:
            file["images"] = dataset.images[chosen]
            file["labels"] = dataset.targets[chosen]
    return f"hdf5:{folder}"


def teacher(spec: str, path: Path) -> str:
    """A teacher of random weights, in a file of ours."""
    if spec.startswith("timm:"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    model = load_model(spec, classes=CLASSES, input_size=SIDE)
    torch.save({"model": model.module.state_dict(), "logitbank": model.description()}, path)
    return f"{spec}@{path}"


@pytest.mark.parametrize("spec", SPECS)
def test_cache_train_and_evaluate_take_it(spec, digits, tmp_path, capsys):
    store, run = tmp_path / "raw.zarr", tmp_path / "run"
    small = ("--dataset", digits, "--batch-size", 10)
    view = ("--augmentation", "cifar-weak", "--views", 1)
    given = teacher(spec, tmp_path / "w.pt")
    done("cache", *small, "--teacher", given, *view, "--out", store)
    once = ("--epochs", 1, "--lr", 0.001)
    done("train", *small, "--student", spec, "--soft-labels", store, *once, "--out", run)
    (epoch,) = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert math.isfinite(epoch["loss"])
    capsys.readouterr()
    done("evaluate", *small, "--model", f"{spec}@{run / 'last.pt'}", "--json")
    found = json.loads(capsys.readouterr().out)
    assert (found["samples"], found["top1"]) == (CLASSES, epoch["top1"])
