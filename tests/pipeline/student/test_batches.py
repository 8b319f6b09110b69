"""Batches: the same from memory and from workers, with pixels checked before they are used."""

from __future__ import annotations

import dataclasses
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from logitbank.pipeline.datasets import open_dataset
from logitbank.pipeline.soft_labels import SoftLabels
from logitbank.pipeline.student import batches as student_batches
from logitbank.pipeline.student import train
from logitbank.pipeline.student.batches import MemoryBatches, WorkerBatches, epoch_batches
from logitbank.pipeline.views import parse_augmentation
from logitbank.stores.errors import DatasetError, LogitbankError, PixelError
from tests.pipeline.student.student_examples import (
    CLASSES,
    losses_of,
    same_weights,
    small_config,
    small_store,
    small_teacher,
)
from tests.pipeline.student.student_nets import DROPOUT_NET


def photos(folder):
    """Three PNG files of each of seven classes, of several sizes."""
    generator = np.random.default_rng(3)
    for sample in range(3 * CLASSES):
        path = folder / f"class{sample % CLASSES}" / f"{sample:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        sides = 40 + 3 * (sample % 5), 50 - 2 * (sample % 4)
        Image.fromarray(generator.integers(0, 256, (*sides, 3), np.uint8)).save(path)
    return open_dataset(f"imagefolder:{folder}")


@pytest.fixture
def files(tmp_path):
    return photos(tmp_path / "photos")


@pytest.fixture
def soft_files(tmp_path, files):
    teacher = small_teacher(tmp_path)
    return small_store(tmp_path / "files.zarr", files, teacher, augmentation="imagenet-weak")


def all_batches(made, view: int, order: np.ndarray) -> list:
    made.begin(view)
    found = [(b.pixels.clone(), b.targets.clone(), b.rows.clone()) for b in made.batches(order)]
    made.close()
    return found


@pytest.mark.parametrize("source", ["store", "augmentation"])
@pytest.mark.parametrize("workers", [0, 2])
def test_memory_and_workers_give_the_same_batches(dataset, soft, source, workers):
    views = soft.augmentation if source == "store" else parse_augmentation("cifar-weak", size=32)
    config = small_config(workers=workers, seed=8)
    order = np.random.default_rng(0).permutation(len(dataset))
    one = all_batches(MemoryBatches(dataset, views, config, len(dataset)), 2, order)
    other = all_batches(WorkerBatches(dataset, views, config), 2, order)
    assert [len(rows) for _, _, rows in one] == [50, 50, 20]
    part = MemoryBatches(dataset, views, dataclasses.replace(config, skip=100), 20)
    for mine, theirs in zip(
        all_batches(part, 2, order[order >= 100]),
        all_batches(WorkerBatches(dataset, views, config), 2, order[order >= 100]),
        strict=True,
    ):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    for mine, theirs in zip(one, other, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    pixels, targets, rows = one[0]
    assert pixels.dtype == torch.uint8
    assert rows.tolist() == (2 * len(dataset) + order[:50]).tolist()
    assert targets.tolist() == dataset.targets[order[:50]].tolist()


def test_small_sets_are_kept_whole_and_large_ones_sent_to_workers(dataset, files, monkeypatch):
    weak = parse_augmentation("cifar-weak", size=32)
    assert isinstance(epoch_batches(dataset, weak, small_config(), 120), MemoryBatches)
    monkeypatch.setattr(student_batches, "_WHOLE_VIEW_BYTES", 119 * 32 * 32 * 3)
    assert isinstance(epoch_batches(dataset, weak, small_config(), 120), WorkerBatches)
    assert isinstance(epoch_batches(dataset, weak, small_config(), 119), MemoryBatches)
    monkeypatch.undo()
    photo = parse_augmentation("imagenet-weak", size=32)
    assert isinstance(epoch_batches(files, photo, small_config(), 21), WorkerBatches)


def test_image_files_cached_equal_online_whatever_the_workers(tmp_path, files, soft_files):
    """With dropout: workers must not draw from the student's generator."""

    def run(name: str, workers: int, **learned) -> list[float]:
        config = small_config(student=DROPOUT_NET, epochs=3, batch_size=8, workers=workers)
        return losses_of(config, files, tmp_path / name, soft_labels=soft_files, **learned)

    cached = run("cached", 0)
    assert run("workers", 2) == cached
    assert same_weights(tmp_path / "workers", tmp_path / "cached")
    teacher = small_teacher(tmp_path)
    assert run("online", 0, teacher=teacher) == pytest.approx(cached, rel=1e-5)


def test_image_files_resume_exactly_with_workers(tmp_path, files, soft_files):
    config = small_config(student=DROPOUT_NET, epochs=3, batch_size=8, workers=1)
    whole = losses_of(config, files, tmp_path / "whole", soft_labels=soft_files)
    killed = []

    def kill(step: int, loss: float) -> None:
        killed.append(loss)
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, files, out=tmp_path / "run", soft_labels=soft_files, on_step=kill)
    rest = losses_of(config, files, tmp_path / "run", soft_labels=soft_files)
    assert killed[:3] + rest == whole
    assert same_weights(tmp_path / "run", tmp_path / "whole")


def replace_image(dataset, sample: int) -> None:
    """Put other pixels into a file of the same name and size: ids don't tell."""
    path = dataset.where(sample)
    with open(path, "rb") as file:
        size = len(file.read())
    with Image.open(path) as image:
        sides = image.size
    Image.new("RGB", sides, (9, 9, 9)).save(path)
    with open(path, "ab") as file:
        file.write(b"\0" * (size - file.tell()))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_changed_file_stops_the_run_as_itself(tmp_path, files, soft_files, workers):
    replace_image(files, 4)
    config = small_config(student=DROPOUT_NET, batch_size=8, workers=workers)
    with pytest.raises(PixelError, match="sample 4 .* not those the teacher saw") as caught:
        losses_of(config, files, tmp_path / "run", soft_labels=soft_files)
    assert "Traceback" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "last.pt").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_file_stops_the_run_as_itself(tmp_path, files, workers):
    with open(files.where(7), "r+b") as file:
        file.truncate(60)
    config = small_config(student=DROPOUT_NET, batch_size=8, workers=workers)
    with pytest.raises(DatasetError, match="truncated") as caught:
        losses_of(config, files, tmp_path / "run")
    assert str(caught.value).startswith(files.where(7))
    assert "Traceback" not in str(caught.value)


def test_verification_can_be_turned_off(tmp_path, files, soft_files):
    replace_image(files, 4)
    config = small_config(student=DROPOUT_NET, batch_size=8, verify_pixels="off")
    losses_of(config, files, tmp_path / "run", soft_labels=soft_files)


def disguised(dataset, **changes):
    """Other pixels under the fingerprint that the store knows."""
    other = dataclasses.replace(dataset, **changes)
    vars(other)["fingerprint"] = dataset.fingerprint
    return other


def test_changed_pixels_in_memory_stop_before_the_first_step(tmp_path, dataset, soft):
    images = dataset.images.copy()
    images[11, 16, 16, 0] ^= 1
    steps: list[int] = []
    with pytest.raises(PixelError, match="sample 11 .*the image changed"):
        train(
            small_config(),
            disguised(dataset, images=images),
            out=tmp_path / "run",
            soft_labels=soft,
            on_step=lambda step, loss: steps.append(step),
        )
    assert steps == []


def test_stored_parameters_that_were_changed_are_told_apart(tmp_path, dataset, soft):
    """As if the store had been sealed over other parameters than were drawn."""
    other = SoftLabels.open(soft.store.where)
    for value in (3, 99):  # another crop, and one that no image can have
        views = other.augmentation
        for view in range(3):
            views.params(view, [0])
            params = soft.augmentation.params(view, np.arange(120)).copy()
            params[20, 0] = value if params[20, 0] != value else value + 1
            views._kept[("view_params", view)] = params
        with pytest.raises(PixelError, match=r"sample 20 .*stored view parameters were changed"):
            losses_of(small_config(epochs=1), dataset, tmp_path / str(value), soft_labels=other)


def test_errors_made_of_more_than_a_message_travel():
    class DamagedError(LogitbankError):
        def __init__(self, where: str, key: str) -> None:
            super().__init__(f"{where}: {key} is damaged")

    class Breaking:
        def __getitems__(self, rows):
            raise DamagedError("raw.zarr", "view_params/c/0/0")

    found = student_batches._ErrorsAsBatches(Breaking()).__getitems__([0])
    assert type(found) is LogitbankError
    assert str(found) == "raw.zarr: view_params/c/0/0 is damaged"


def test_a_worker_that_died_is_an_error_of_one_line(tmp_path, files, monkeypatch):
    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(student_batches.ViewDataset, "__getitems__", die)
    config = small_config(student=DROPOUT_NET, batch_size=8, workers=1)
    with pytest.raises(LogitbankError, match="a worker process that renders images died"):
        losses_of(config, files, tmp_path / "run")
