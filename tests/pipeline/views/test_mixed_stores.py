"""Stores of mixed views: rendered from what they hold, labelled by both images, checked by name."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from logitbank.pipeline.views import (
    CifarWeak,
    CutMix,
    ImagenetWeak,
    Mixed,
    MixUp,
    StoredViews,
    ViewRenderer,
    check_pixels,
)
from logitbank.pipeline.views.dataset import ViewDataset
from logitbank.stores.errors import DatasetError, PixelError
from tests.pipeline.student.test_batches import replace_image
from tests.pipeline.views.view_examples import (
    CLASSES,
    PillowItems,
    file_dataset,
    write_store,
)
from tests.reference import mixed_views as reference

MIXES = {"mixup": MixUp(alpha=1.0), "cutmix": CutMix()}
VIEW = 1


@pytest.fixture(scope="module")
def stores(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    return {
        name: StoredViews(
            write_store(
                folder / f"{name}.zarr",
                dataset,
                augmentation=Mixed(CifarWeak(size=8, pad=1), mix, len(dataset)),
            )
        )
        for name, mix in MIXES.items()
    }


@pytest.fixture
def photos(tmp_path):
    return file_dataset(tmp_path / "root")


@pytest.fixture
def stored_photos(photos, tmp_path):
    augmentation = Mixed(ImagenetWeak(size=12), MixUp(alpha=1.0), len(photos))
    return StoredViews(write_store(tmp_path / "photos.zarr", photos, augmentation=augmentation))


def plain_item(images, stored, row) -> tuple[np.ndarray, np.ndarray]:
    """The pixels and class weights of a row, by the definitions."""
    view, sample = divmod(row, len(images))
    identity = stored.store.manifest.augmentation
    params = stored.params(view, [sample])[0]
    pixels = reference.render(identity.name, identity.parameters, images.pixels, sample, params)
    share = reference.own_share(identity.name, identity.size, params)
    weights = np.zeros(CLASSES)
    weights[images.targets[sample]] += float(share)
    weights[images.targets[params[0]]] += float(1 - share)
    return pixels, weights


def row_of(stored, wanted, view=VIEW) -> tuple[int, int]:
    """The first sample whose row is as wanted, by (own share, sample, partner); and its partner."""
    params = stored.params(view, range(stored.samples))
    shares = stored.kind.shares(params)
    for sample, (share, partner) in enumerate(zip(shares, params[:, 0].tolist(), strict=True)):
        if partner != sample and wanted(share, sample, partner):
            return sample, partner
    raise AssertionError("there is no such row")


def balanced(share, sample, partner) -> bool:
    return 0.3 < share < 0.7 and sample < partner


def error_of(dataset, stored, sample, view=VIEW) -> str:
    """What is said of one sample, whatever is wrong with the others."""
    with pytest.raises(PixelError) as refusal:
        ViewDataset(dataset, stored)[view * stored.samples + sample]
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


# ---- what a store is of


@pytest.mark.parametrize("kind", ["mixup", "cutmix", "photos", "pillow items"])
def test_a_store_alone_says_what_its_views_and_targets_are(
    kind, dataset, stores, photos, stored_photos
):
    images = photos if kind == "photos" else dataset
    stored = {"photos": stored_photos, "pillow items": stores["mixup"]}.get(kind) or stores[kind]
    given = PillowItems(dataset.images, dataset.targets) if kind == "pillow items" else images
    data = pickle.loads(pickle.dumps(ViewDataset(given, stored)))
    for view in range(3):
        check_pixels(ViewRenderer(images, stored.kind), stored, view)
    rows = [0, 3, 7, len(images) + 4, 3 * len(images) - 1, 3]
    for row, (pixels, target, number) in zip(rows, data.__getitems__(rows), strict=True):
        expected, weights = plain_item(images, stored, row)
        assert np.array_equal(pixels, expected)
        assert number == row
        assert target.dtype == torch.float32
        assert target.shape == (CLASSES,)
        np.testing.assert_allclose(target, weights, atol=1e-7)


def test_a_loaders_batch_goes_into_cross_entropy_as_it_is(dataset, stores):
    stored = stores["cutmix"]
    loader = DataLoader(ViewDataset(dataset, stored), 8, num_workers=2)
    pixels, targets, rows = next(iter(loader))
    logits = pixels.float().mean(dim=(1, 2))
    loss = F.cross_entropy(logits, targets, reduction="none")
    for row, found, own in zip(rows.tolist(), loss, logits, strict=True):
        weights = torch.from_numpy(plain_item(dataset, stored, row)[1])
        expected = -(weights * F.log_softmax(own.double(), dim=0)).sum()
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("wrapped", [False, True])
def test_views_without_a_store_are_drawn_and_labelled_alike(dataset, stores, wrapped):
    stored = stores["mixup"]
    given = PillowItems(dataset.images, dataset.targets) if wrapped else dataset
    data = ViewDataset(given, stored.kind, seed=stored.seed)
    pixels, target, _ = data[VIEW * 40 + 11]
    theirs, weights, _ = ViewDataset(dataset, stored)[VIEW * 40 + 11]
    assert torch.equal(pixels, theirs)
    assert torch.equal(target, weights)


def test_another_label_of_either_image_is_refused(dataset, stores):
    stored = stores["mixup"]
    sample, partner = row_of(stored, balanced)
    for changed in (sample, partner):
        targets = dataset.targets.copy()
        targets[changed] = (targets[changed] + 1) % CLASSES
        other = PillowItems(dataset.images, targets)
        with pytest.raises(DatasetError, match=rf"sample {changed} of .*when it was cached"):
            ViewDataset(other, stored)[VIEW * 40 + sample]


# ---- what is no longer as it was


@pytest.mark.parametrize("name", MIXES)
def test_a_changed_image_is_told_from_a_changed_partner(dataset, stores, name):
    stored = stores[name]
    sample, partner = row_of(stored, balanced)
    for changed, cause in (
        (sample, "the image changed: its id is"),
        (
            partner,
            f"the image of its partner, sample {partner} (sample {partner} of random.h5), "
            "changed: its id is",
        ),
    ):
        images = dataset.images.copy()
        images[changed] = 255 - images[changed]
        message = error_of(dataclasses.replace(dataset, images=images), stored, sample)
        assert message.startswith(
            f"sample {sample} (sample {sample} of random.h5 mixed with sample {partner} of "
            f"random.h5), view {VIEW}: its pixels are not those the teacher saw: "
        )
        assert cause in message


def test_another_order_is_named_by_the_first_image_that_moved(dataset, stores):
    stored = stores["mixup"]
    sample, partner = row_of(stored, lambda *row: balanced(*row) and row[1] < 20 <= row[2])
    order = np.concatenate([np.arange(20), np.roll(np.arange(20, 40), 1)])
    other = dataclasses.replace(
        dataset, images=dataset.images[order], targets=dataset.targets[order]
    )
    place = order.tolist().index(partner)
    message = error_of(other, stored, sample)
    assert f"the cached image of its partner, sample {partner} " in message
    assert f"is now sample {place}; restore the order" in message
    own = dataclasses.replace(
        dataset, images=np.roll(dataset.images, 3, 0), targets=np.roll(dataset.targets, 3)
    )
    assert f"the cached image is now sample {(sample + 3) % 40}; " in error_of(own, stored, sample)


def test_a_moved_partner_is_found_by_its_pixels_where_there_are_no_ids(dataset, stores):
    stored = stores["mixup"]
    sample, partner = row_of(stored, lambda *row: balanced(*row) and row[1] + 2 < row[2] < 37)
    images, targets = dataset.images.copy(), dataset.targets
    images[[partner, partner + 1]] = images[[partner + 1, partner]]
    message = error_of(PillowItems(images, targets), stored, sample)
    assert f"the cached image of its partner, sample {partner} " in message
    assert f"is now sample {partner + 1}; " in message


@pytest.mark.parametrize("which", ["own", "partner"])
def test_a_file_of_other_content_is_found_by_other_views_of_both(photos, stored_photos, which):
    """Its path and size are the cached ones: nothing but pixels can tell."""
    sample, partner = row_of(stored_photos, lambda share, own, other: 0.3 < share < 0.7)
    changed = sample if which == "own" else partner
    replace_image(photos, changed)
    message = error_of(photos, stored_photos, sample)
    whose = (
        "" if which == "own" else f" of its partner, sample {partner} ({photos.where(partner)}),"
    )
    assert f": the image{whose} has the cached one's id and the view its parameters" in message


def test_where_both_may_have_changed_both_are_named(photos, stored_photos):
    sample, partner = row_of(stored_photos, lambda share, own, other: 0.3 < share < 0.7)
    replace_image(photos, sample)
    replace_image(photos, partner)
    message = error_of(photos, stored_photos, sample)
    assert f": the image or that of its partner, sample {partner} (" in message


@pytest.mark.parametrize("column", ["partner", "dy", "partner_dx", "share"])
def test_a_changed_number_is_told_by_drawing_again(dataset, stores, tmp_path, column):
    augmentation = stores["mixup"].kind
    sample, _ = row_of(stores["mixup"], balanced)
    place = augmentation.columns.index(column)

    def change(view, samples, values):
        highest = {"partner": 40, "share": 1025}.get(column, 3)
        values[samples == sample, place] = (
            values[samples == sample, place] + highest // 2
        ) % highest
        return values

    path = write_store(
        tmp_path / "raw.zarr", dataset, augmentation=augmentation, view_params=change
    )
    message = error_of(dataset, StoredViews(path), sample)
    assert "the stored view parameters were changed: (partner, dy, dx, flip, partner_dy," in message
    assert "was drawn and gives the cached pixels; cache again" in message


def test_numbers_that_no_view_has_are_changed_ones(dataset, stores, tmp_path):
    def change(view, samples, values):
        values[samples == 33, 0] = 40
        return values

    augmentation = stores["cutmix"].kind
    path = write_store(
        tmp_path / "raw.zarr", dataset, augmentation=augmentation, view_params=change
    )
    stored = StoredViews(path)
    assert "the stored view parameters were changed" in error_of(dataset, stored, 33)
    with pytest.raises(PixelError, match="sample 33 "):
        check_pixels(ViewRenderer(dataset, stored.kind), stored, 0)
