"""A student taught from the store learns what it would with the teacher in the loop."""

from __future__ import annotations

import pytest
import torch

from logitbank.pipeline.datasets import open_dataset
from logitbank.pipeline.losses import kd_loss
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


def test_float16_changes_a_loss_on_the_same_weights_by_less_than_a_thousandth(tmp_path):
    """The teacher is a trained one, whose logits are as large as those of real ones."""
    words = ["--model", "cifar:resnet8", "--limit", 400, "--epochs", 8, "--lr", 0.1]
    done("train-teacher", "--dataset", "digits", *words, "--out", tmp_path / "teacher")
    trained = f"cifar:resnet8@{tmp_path}/teacher/last.pt"
    for encoding in ("float16", "float32"):
        done(*cache_words(trained, tmp_path / f"{encoding}.zarr", encoding=encoding))
    half, exact = (SoftLabels.open(tmp_path / f"{name}.zarr") for name in ("float16", "float32"))
    torch.manual_seed(0)
    student = torch.nn.Linear(3 * 32 * 32, 10)
    images = torch.from_numpy(open_dataset("digits").images[:160]).flatten(1) / 255
    differences = []
    for epoch in range(3):
        stored, online = half.epoch(epoch), exact.epoch(epoch)
        for samples in torch.arange(160).split(32):
            rows, student_logits = stored.rows[samples], student(images[samples])
            losses = [kd_loss(student_logits, slab[rows], 4.0).item() for slab in (stored, online)]
            differences.append(abs(losses[0] / losses[1] - 1))
    print(f"float16: a loss differs by {max(differences):.1e} of itself at most")
    assert 0 < max(differences) < 1e-3
