"""A student never takes a step on pixels that the teacher did not label."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from logitbank.pipeline.datasets import open_dataset
from logitbank.pipeline.models import default_normalisation, load_model
from logitbank.pipeline.soft_labels import SoftLabels
from logitbank.pipeline.store_task import fill_store
from logitbank.pipeline.student import TrainConfig, train
from logitbank.pipeline.teacher import CacheSettings, TeacherTask
from logitbank.pipeline.views import parse_augmentation
from logitbank.stores.errors import LogitbankError
from logitbank.stores.layout import all_units
from logitbank.stores.reader import Store
from logitbank.stores.writer import StoreWriter

SAMPLES, STEPS = 24, 3


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Twelve small photos in each of two class folders."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for sample in range(SAMPLES):
        folder = root / "train" / f"class{sample // 12}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{sample:02}.bmp")
    return root


def cache(path: Path, dataset, augmentation: str) -> Store:
    model = load_model(
        "cifar:resnet8",
        classes=len(dataset.classes),
        normalisation=default_normalisation(dataset),
        input_size=32,
    )
    views = parse_augmentation(augmentation, size=32)
    settings = CacheSettings(views=2, batch_size=8, block_rows=8)
    fill_store(TeacherTask.of(dataset, model, views, settings, str(path)))
    return Store.open(path)


def steps_before_it_stops(store: Path, dataset, out: Path, message: str, workers: int = 0) -> int:
    """Train until the error that must come, and count the steps that were taken."""
    steps: list[int] = []
    config = TrainConfig(
        "cifar:resnet8", epochs=2, batch_size=8, workers=workers, device="cpu", threads=1
    )
    with pytest.raises(LogitbankError, match=message):
        train(
            config,
            dataset,
            out=out,
            soft_labels=SoftLabels.open(store),
            on_step=lambda step, loss: steps.append(step),
        )
    return len(steps)


@pytest.fixture
def digits_store(tmp_path):
    dataset = open_dataset("digits", "train").head(SAMPLES)
    cache(tmp_path / "raw.zarr", dataset, "cifar-weak")
    return tmp_path / "raw.zarr", dataset


def test_one_changed_image_in_memory(digits_store, tmp_path):
    path, dataset = digits_store
    images = dataset.images.copy()
    images[17, 20, 20] ^= 1
    changed = dataclasses.replace(dataset, images=images)
    message = "1 of 24 images are different, first sample 17 of digits train"
    assert steps_before_it_stops(path, changed, tmp_path / "run", message) == 0


def test_another_order_in_memory(digits_store, tmp_path):
    path, dataset = digits_store
    order = np.roll(np.arange(SAMPLES), 1)
    changed = dataclasses.replace(
        dataset, images=dataset.images[order], targets=dataset.targets[order]
    )
    message = "the same images in another order"
    assert steps_before_it_stops(path, changed, tmp_path / "run", message) == 0


def test_a_chunk_of_stored_parameters_that_was_changed(digits_store, tmp_path):
    path, dataset = digits_store
    for chunk in path.glob("view_params/c/*/0/0"):
        data = bytearray(chunk.read_bytes())
        data[0] ^= 1
        chunk.write_bytes(data)
    message = "chunk view_params/c/./0/0 is damaged"
    assert steps_before_it_stops(path, dataset, tmp_path / "run", message) == 0


def test_stored_parameters_that_were_changed_and_sealed_again(digits_store, tmp_path):
    path, dataset = digits_store
    store = Store.open(path)
    forged = tmp_path / "forged.zarr"
    writer = StoreWriter.open(forged, store.manifest.unsealed(), store.target, store.sample_id)
    for unit in all_units(store.manifest):
        names = ("view_params", "pixel_crc", "top", "logits")
        values = {name: store.read_unit(name, unit).copy() for name in names}
        if unit.block == 1:
            values["view_params"][5, 0] = (values["view_params"][5, 0] + 3) % 9
        writer.write_unit(unit, values)
    writer.seal()
    message = "sample 13 .*stored view parameters were changed: .dy, dx, flip. = "
    assert steps_before_it_stops(forged, dataset, tmp_path / "run", message) == 0


@pytest.fixture
def photo_store(tmp_path, photos):
    root = Path(shutil.copytree(photos, tmp_path / "photos"))
    cache(tmp_path / "raw.zarr", open_dataset(f"imagefolder:{root}", "train"), "imagenet-weak")
    return tmp_path / "raw.zarr", root


@pytest.mark.parametrize("workers", [0, 2])
def test_one_changed_file_stops_before_the_step_that_would_use_it(photo_store, tmp_path, workers):
    """Name and size of the file stay, so that its pixels alone can tell."""
    path, root = photo_store
    file = root / "train/class1/17.bmp"
    size = file.stat().st_size
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(file)
    assert file.stat().st_size == size
    dataset = open_dataset(f"imagefolder:{root}", "train")
    message = r"sample 17 \(.*17\.bmp\), view \d: its pixels are not those the teacher saw: the im"
    taken = steps_before_it_stops(path, dataset, tmp_path / "run", message, workers)
    assert taken < STEPS


def test_two_files_that_changed_places(photo_store, tmp_path):
    path, root = photo_store
    one, other = root / "train/class0/03.bmp", root / "train/class0/04.bmp"
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)
    dataset = open_dataset(f"imagefolder:{root}", "train")
    message = (
        r"sample [34] \(.*0[34]\.bmp\).*the image's content or the library that decodes it chan"
    )
    assert steps_before_it_stops(path, dataset, tmp_path / "run", message) < STEPS


def test_a_file_that_is_gone_is_a_dataset_of_other_samples(photo_store, tmp_path):
    path, root = photo_store
    (root / "train/class0/03.bmp").unlink()
    dataset = open_dataset(f"imagefolder:{root}", "train")
    message = "holds 24 samples of imagefolder train, but imagefolder train has 23"
    assert steps_before_it_stops(path, dataset, tmp_path / "run", message) == 0


def test_an_undisturbed_dataset_trains(photo_store, tmp_path):
    path, root = photo_store
    dataset = open_dataset(f"imagefolder:{root}", "train")
    config = TrainConfig("cifar:resnet8", epochs=1, batch_size=8, workers=2, device="cpu")
    result = train(config, dataset, out=tmp_path / "run", soft_labels=SoftLabels.open(path))
    assert len(result.metrics) == 1
