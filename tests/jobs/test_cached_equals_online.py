"""A student taught from the store learns what it would with the teacher in the loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from logitbank.pipeline.datasets import open_dataset
from logitbank.pipeline.models import default_normalisation, load_model
from logitbank.pipeline.soft_labels import SoftLabels
from logitbank.pipeline.student import TrainConfig, train
from tests.jobs.command import done
from tests.jobs.conftest import cache_words

CONFIG = TrainConfig(
    student="cifar:resnet8", epochs=2, batch_size=64, lr=0.05, seed=3, limit=160, device="cpu"
)


def losses_and_weights(out, soft, teacher=None):
    losses = []
    train(
        CONFIG,
        open_dataset("digits", "train"),
        out=out,
        soft_labels=soft,
        teacher=teacher,
        on_step=lambda step, loss: losses.append(loss),
    )
    return losses, torch.load(out / "last.pt", weights_only=True)["model"]


@pytest.fixture
def loaded(teacher):
    dataset = open_dataset("digits", "train")
    return load_model(
        teacher,
        classes=10,
        normalisation=default_normalisation(dataset),
        input_size=32,
        pretrained=True,
    )


def test_float32_gives_the_same_losses_and_weights_bit_for_bit(tmp_path, teacher, loaded):
    done(*cache_words(teacher, tmp_path / "raw.zarr", encoding="float32"))
    soft = SoftLabels.open(tmp_path / "raw.zarr")
    cached, cached_weights = losses_and_weights(tmp_path / "cached", soft)
    online, online_weights = losses_and_weights(tmp_path / "online", soft, loaded)
    assert len(cached) == 2 * 3
    assert cached == online
    assert cached_weights.keys() == online_weights.keys()
    for name, weight in cached_weights.items():
        assert torch.equal(weight, online_weights[name]), name


def test_float16_changes_a_loss_on_the_same_weights_by_less_than_a_thousandth(tmp_path, teacher):
    from logitbank.pipeline.losses import kd_loss

    for encoding in ("float16", "float32"):
        done(*cache_words(teacher, tmp_path / f"{encoding}.zarr", encoding=encoding))
    half, exact = (
        SoftLabels.open(tmp_path / f"{name}.zarr").epoch(0) for name in ("float16", "float32")
    )
    rng = torch.Generator().manual_seed(0)
    differences = []
    for rows in half.rows.split(32):
        student_logits = torch.randn(len(rows), 10, generator=rng)
        stored = kd_loss(student_logits, half[rows], 4.0)
        online = kd_loss(student_logits, exact[rows], 4.0)
        differences.append(abs(float(stored / online) - 1))
    assert 0 < np.max(differences) < 1e-3
