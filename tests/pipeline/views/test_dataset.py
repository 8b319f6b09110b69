"""`ViewDataset` gives the views the teacher saw, by rows, to any loader."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, SubsetRandomSampler
from torch.utils.data.distributed import DistributedSampler
from torchvision.transforms import v2

from logitbank import SoftLabels
from logitbank.pipeline.views import CifarWeak, ImagenetWeak, StoredViews, ViewRenderer
from logitbank.pipeline.views.dataset import RowSampler, ViewDataset
from logitbank.pipeline.views.draws import epoch_order, view_of_epoch
from logitbank.stores.errors import DatasetError, PixelError, UsageError
from tests.pipeline.views.view_examples import SEED, file_dataset, memory_dataset, write_store
from tests.reference import views as reference


class PillowItems:
    """A user's own dataset of Pillow images."""

    def __init__(self, images, targets):
        self.images_, self.targets_ = images, targets

    def __len__(self):
        return len(self.images_)

    def __getitem__(self, sample):
        return Image.fromarray(self.images_[sample]), int(self.targets_[sample])


@pytest.fixture(scope="module")
def dataset():
    return memory_dataset()


@pytest.fixture(scope="module")
def path(dataset, tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("memory") / "raw.zarr", dataset)


@pytest.fixture(scope="module")
def stored(path):
    return StoredViews(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return file_dataset(tmp_path_factory.mktemp("photos") / "root")


@pytest.fixture(scope="module")
def stored_photos(photos, tmp_path_factory):
    return StoredViews(write_store(tmp_path_factory.mktemp("files") / "raw.zarr", photos))


def plain_view(images, stored, row) -> np.ndarray:
    view, sample = divmod(row, len(images))
    params = stored.params(view, [sample])[0]
    augmentation = stored.kind
    image = images.pixels(sample)
    return reference.render(augmentation.name, augmentation.parameters, image, params)


def require_plain(images, stored, batches) -> list[int]:
    """Require every image of a loader to be the plain rendering of its row; give the rows."""
    seen = []
    for pixels, targets, rows in batches:
        for image, target, row in zip(pixels, targets.tolist(), rows.tolist(), strict=True):
            assert np.array_equal(image.numpy(), plain_view(images, stored, row))
            assert target == images.targets[row % len(images)]
            seen.append(row)
    return seen


@pytest.mark.parametrize("kind", ["memory", "files", "pillow items"])
def test_every_row_is_its_view_its_target_and_itself(kind, dataset, stored, photos, stored_photos):
    images, views = (photos, stored_photos) if kind == "files" else (dataset, stored)
    given = PillowItems(dataset.images, dataset.targets) if kind == "pillow items" else images
    data = ViewDataset(given, views)
    assert len(data) == 3 * len(images)
    for row in (0, 7, len(images), 2 * len(images) + 5, len(data) - 1):
        pixels, target, number = data[row]
        assert pixels.dtype == torch.uint8
        assert np.array_equal(pixels.numpy(), plain_view(images, views, row))
        assert (target, number) == (images.targets[row % len(images)], row)
    mixed = [5, len(data) - 1, 5, len(images) + 1]
    assert [item[2] for item in data.__getitems__(mixed)] == mixed


@pytest.mark.parametrize("row", [-1, 120, 10**12])
def test_a_row_that_there_isnt_is_refused(dataset, stored, row):
    with pytest.raises(IndexError, match=f"row {row}: there are 3 views of 40 samples"):
        ViewDataset(dataset, stored)[row]


def test_a_transform_gets_a_pillow_image(dataset, stored):
    transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    pixels = ViewDataset(dataset, stored, transform)[50][0]
    expected = torch.from_numpy(plain_view(dataset, stored, 50)).permute(2, 0, 1) / 255
    torch.testing.assert_close(pixels.as_subclass(torch.Tensor), expected)
    kinds = []
    ViewDataset(dataset, stored, kinds.append)[0]
    assert isinstance(kinds[0], Image.Image)
    assert kinds[0].mode == "RGB"


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("batch", [1, 7])
def test_pixels_do_not_depend_on_batches_order_or_workers(dataset, stored, workers, batch):
    rows = torch.arange(40, 80)
    sampler = SubsetRandomSampler(rows, torch.Generator().manual_seed(workers))
    loader = DataLoader(ViewDataset(dataset, stored), batch, sampler=sampler, num_workers=workers)
    assert sorted(require_plain(dataset, stored, loader)) == rows.tolist()


def test_workers_may_be_spawned(photos, stored_photos):
    rows = list(range(12, 24))
    data = ViewDataset(photos, stored_photos)
    loader = DataLoader(
        data, 5, sampler=rows, num_workers=2, multiprocessing_context="spawn", timeout=120
    )
    assert require_plain(photos, stored_photos, loader) == rows


def test_persistent_workers_of_a_distributed_run_follow_the_epochs_rows(dataset, path):
    soft = SoftLabels.open(path)
    epochs = []
    for rank in range(2):
        positions = DistributedSampler(range(soft.samples), num_replicas=2, rank=rank, seed=4)
        sampler = RowSampler(soft.augmentation, positions, seed=1)
        assert len(sampler) == 20
        loader = DataLoader(
            ViewDataset(dataset, soft.augmentation),
            batch_size=8,
            sampler=sampler,
            num_workers=2,
            persistent_workers=True,
        )
        for epoch in range(4):
            slab = soft.epoch(epoch, seed=1)
            sampler.set_epoch(epoch)
            for pixels, _, row in loader:
                assert slab[row].shape == (len(pixels), soft.classes)
                assert set((row // soft.samples).tolist()) == {slab.view}
            epochs.append((epoch, require_plain(dataset, soft.augmentation, loader)))
    for epoch in range(4):
        first, second = (rows for each, rows in epochs if each == epoch)
        view = first[0] // soft.samples
        assert sorted(first + second) == list(range(view * 40, view * 40 + 40))
    orders = {tuple(row % 40 for row in rows) for _, rows in epochs}
    assert len(orders) == 8


def test_a_row_sampler_draws_the_orders_of_a_training_job(stored):
    sampler = RowSampler(stored, seed=9)
    assert len(sampler) == 40
    for epoch in (0, 3, 1):
        if epoch:
            sampler.set_epoch(epoch)
        first = 40 * view_of_epoch(epoch, 3, 9)
        assert list(sampler) == (first + epoch_order(epoch, 40, 9)).tolist()


def test_changed_pixels_stop_the_loader_before_their_batch(dataset, stored):
    images = dataset.images.copy()
    images[21] ^= 255
    data = ViewDataset(dataclasses.replace(dataset, images=images), stored)
    loader = DataLoader(data, 8, sampler=range(40), num_workers=1)
    batches = iter(loader)
    served = [next(batches)[2].tolist() for _ in range(2)]
    assert served == [list(range(8)), list(range(8, 16))]
    with pytest.raises(
        PixelError, match=r"sample 21 .*view 0: its pixels are not .* image changed"
    ):
        next(batches)


def test_changed_parameters_are_caught_in_files_and_in_memory(tmp_path, dataset, photos):
    def change(view, samples, values):
        values[samples == 3] = -1
        return values

    for number, images in enumerate((dataset, photos)):
        path = write_store(tmp_path / f"{number}.zarr", images, view_params=change)
        data = ViewDataset(images, StoredViews(path))
        data[2]
        with pytest.raises(PixelError, match=r"sample 3 .* stored view parameters were changed"):
            data.__getitems__([1, 2, 3, 4])


def test_verification_can_be_relaxed(tmp_path, dataset):
    def change(view, samples, values):
        return values ^ 1

    stored = StoredViews(write_store(tmp_path / "raw.zarr", dataset, pixel_crc=change))
    rows = range(40, 80)
    ViewDataset(dataset, stored, verify_pixels="off").__getitems__(rows)
    sampled = ViewDataset(dataset, stored, verify_pixels="sample")
    sampled.__getitems__(range(40, 80))
    with pytest.raises(PixelError, match="sample 0 .* view 0: .* content or the library"):
        sampled.__getitems__(range(40))
    with pytest.raises(UsageError, match="did you mean 'sample'"):
        ViewDataset(dataset, stored, verify_pixels="sampled")


def test_another_target_than_the_cached_one_is_refused(dataset, stored):
    targets = dataset.targets.copy()
    targets[9] = 2 - targets[9]
    targets[10] = (targets[10] + 1) % 3
    data = ViewDataset(dataclasses.replace(dataset, targets=targets), stored)
    with pytest.raises(DatasetError, match="sample 10 of random.h5: its target is 2, but 1 when"):
        data.__getitems__([8, 10])


def test_another_number_of_samples_is_refused(dataset, stored):
    with pytest.raises(DatasetError, match="the store holds 40 samples, the dataset 12"):
        ViewDataset(dataset.head(12), stored)


def test_a_dataset_that_transforms_its_images_is_refused(stored):
    class Tensors(PillowItems):
        def __getitem__(self, sample):
            return torch.zeros(3, 8, 8), 0

    data = ViewDataset(Tensors(np.zeros((40, 8, 8, 3), np.uint8), np.zeros(40)), stored)
    with pytest.raises(DatasetError, match=r"Tensor of shape \(3, 8, 8\): use the dataset with"):
        data[0]


def test_an_augmentation_alone_draws_the_same_views_from_its_seed(dataset, stored, photos):
    for images, augmentation in ((dataset, stored.kind), (photos, ImagenetWeak(size=12))):
        data = ViewDataset(images, augmentation, seed=SEED)
        expected, _ = ViewRenderer(images, augmentation).draw(SEED, 2, [4, 1])
        items = data.__getitems__([2 * len(images) + 4, 2 * len(images) + 1])
        assert torch.equal(torch.stack([item[0] for item in items]), expected)


def test_it_has_as_many_rows_as_there_are_views(dataset, photos):
    assert len(ViewDataset(dataset, CifarWeak(size=8))) == 162 * 40
    endless = ViewDataset(photos, ImagenetWeak(size=12))
    with pytest.raises(TypeError, match="imagenet-weak has no end of views"):
        len(endless)
    assert endless[10**6][2] == 10**6
