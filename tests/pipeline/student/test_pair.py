"""Two stores of one teacher: each image's weak and strong view, each with its own order."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import pytest
import torch
import torch.nn.functional as F

from logitbank.pipeline.models import default_normalisation, load_model, normalise
from logitbank.pipeline.soft_labels import SoftLabels, paired
from logitbank.pipeline.student import train
from logitbank.pipeline.views import StoredViews, parse_augmentation
from logitbank.pipeline.views.draws import Stream, epoch_order, view_of_epoch
from logitbank.pipeline.views.rendering.renderer import ViewRenderer
from logitbank.stores.errors import PixelError, StoreError, UsageError
from tests.pipeline.student.student_examples import (
    BATCH,
    CLASSES,
    corrected,
    losses_of,
    same_weights,
    small_config,
    small_store,
    small_teacher,
)
from tests.pipeline.student.student_nets import DROPOUT_NET
from tests.reference import views as reference

PI_OF_STRONG = 18


def config(**changes):
    return small_config(**{"student": DROPOUT_NET, "loss": "sld"} | changes)


# ---- Each store's own order of views


def test_the_strong_store_has_an_order_of_its_own():
    weak = [view_of_epoch(epoch, 5, 0) for epoch in range(50)]
    strong = [view_of_epoch(epoch, 5, 0, Stream.STRONG_VIEW_ORDER) for epoch in range(50)]
    for cycle in range(10):
        drawn = reference.words(0, 0, cycle, PI_OF_STRONG, 5)
        assert strong[5 * cycle :][:5] == sorted(range(5), key=drawn.__getitem__)
    assert weak != strong


def test_what_one_store_gives_is_what_it_gave_before(pair):
    weak, strong = pair
    for seed in (0, 3):
        views = [weak.epoch(epoch, seed=seed).view for epoch in range(6)]
        assert views == [view_of_epoch(epoch, 3, seed) for epoch in range(6)]
        views = [strong.epoch(epoch, seed=seed).view for epoch in range(6)]
        own = [view_of_epoch(epoch, 2, seed, Stream.STRONG_VIEW_ORDER) for epoch in range(6)]
        assert views == own


def test_a_copy_keeps_its_order(pair):
    for made in (copy.copy(pair[1]), pickle.loads(pickle.dumps(pair[1]))):
        assert made.order == Stream.STRONG_VIEW_ORDER


# ---- What a step is


def swapped(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Row by row; the gradient goes with the values."""
    rows = []
    for row, label in zip(logits, targets.tolist(), strict=True):
        order = list(range(len(row)))
        best = int(row.argmax())
        order[label], order[best] = best, label
        rows.append(row[order])
    return torch.stack(rows)


def kl(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    p, q = (F.softmax(each / temperature, 1) for each in (teacher, student))
    return temperature**2 * (p * (p / q).log()).sum(1).mean()


def plain_sld(dataset, run, pair) -> list[float]:
    """SLD from two stores, written out: two forward passes, weak first, then one step."""
    torch.manual_seed(run.seed)
    norm = default_normalisation(dataset)
    net = load_model(run.student, classes=CLASSES, normalisation=norm).module.train()
    optimiser = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    drawn = [parse_augmentation(spec, size=32) for spec in ("cifar-weak", "cifar-weak:pad=2")]
    renderers = [ViewRenderer(dataset, augmentation) for augmentation in drawn]
    losses = []
    for epoch in range(run.epochs):
        optimiser.param_groups[0]["lr"] = 0.05 if epoch < run.milestones[0] else 0.005
        views = [
            view_of_epoch(epoch, 3, run.seed),
            view_of_epoch(epoch, 2, run.seed, Stream.STRONG_VIEW_ORDER),
        ]
        order = epoch_order(epoch, len(dataset), run.seed)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            targets = torch.from_numpy(dataset.targets[chosen]).long()
            total = torch.zeros(())
            for renderer, soft, view, seed in zip(renderers, pair, views, (0, 5), strict=True):
                pixels, _ = renderer.draw(seed, view, chosen)
                said = torch.from_numpy(soft.store.read_view("logits", view))[chosen]
                out = net(normalise(pixels, norm))
                total = total + 0.1 * F.cross_entropy(out, targets)
                for temperature in range(1, 7):
                    total = total + 0.9 * kl(out, swapped(said, targets), temperature)
                    if epoch >= run.milestones[0]:
                        total = total + 0.9 * kl(out, swapped(out, targets), temperature)
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
            losses.append(total.item())
    return losses


def test_sld_from_two_stores_is_the_plain_loop(tmp_path, dataset, pair):
    run = config(epochs=3, milestones=(1,), seed=1)
    found = losses_of(run, dataset, tmp_path / "run", soft_labels=pair)
    assert found == pytest.approx(plain_sld(dataset, run, pair), rel=2e-4)
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["view"] for line in lines] == [view_of_epoch(e, 3, 1) for e in range(3)]
    strong = [view_of_epoch(e, 2, 1, Stream.STRONG_VIEW_ORDER) for e in range(3)]
    assert [line["strong_view"] for line in lines] == strong
    assert ["loss_self" in line for line in lines] == [False, True, True]


@pytest.mark.parametrize("loss", ["sld", "mlkd+ls"])
def test_cached_equals_the_teacher_in_the_loop(tmp_path, dataset, pair, teacher, loss):
    run = config(loss=loss)
    cached = losses_of(run, dataset, tmp_path / "cached", soft_labels=pair)
    online = losses_of(run, dataset, tmp_path / "online", soft_labels=pair, teacher=teacher)
    assert online == cached
    assert same_weights(tmp_path / "online", tmp_path / "cached")


def test_without_stores_strong_views_are_drawn_by_name(tmp_path, dataset, teacher, monkeypatch):
    run = config(epochs=1, strong_augmentation="cifar-weak:pad=1")
    losses_of(run, dataset, tmp_path / "drawn", teacher=teacher)
    [line] = (tmp_path / "drawn" / "metrics.jsonl").read_text().splitlines()
    strong = view_of_epoch(0, 18, 0, Stream.STRONG_VIEW_ORDER)  # 3 x 3 x 2 of them
    assert json.loads(line)["strong_view"] == strong
    monkeypatch.setattr("logitbank.pipeline.student.sources.AUGMENTATIONS", {})
    with pytest.raises(UsageError, match="there is no cifar-strong: give --soft-labels WEAK STR"):
        losses_of(config(), dataset, tmp_path / "run", teacher=teacher)


@pytest.mark.parametrize("pad", [4, 2], ids=["weak", "strong"])
def test_pixels_of_both_stores_are_checked(tmp_path, dataset, pair, monkeypatch, pad):
    def other(self, view, samples):
        return stored(self, view, samples) ^ (self.kind.parameters["pad"] == pad)

    stored = StoredViews.pixel_crc
    monkeypatch.setattr(StoredViews, "pixel_crc", other)
    with pytest.raises(PixelError):
        losses_of(config(), dataset, tmp_path / "run", soft_labels=pair)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_of_files_shows_both_views(tmp_path, dataset, pair, monkeypatch, workers):
    """Workers' batches give the same pixels as those of a view in memory."""
    whole = losses_of(config(epochs=1), dataset, tmp_path / "memory", soft_labels=pair)
    monkeypatch.setattr("logitbank.pipeline.student.batches._WHOLE_VIEW_BYTES", 0)
    run = config(epochs=1, workers=workers)
    assert losses_of(run, dataset, tmp_path / "files", soft_labels=pair) == whole


# ---- Which stores go together


def test_another_teacher_is_named(tmp_path, dataset, pair):
    other = small_store(tmp_path / "o.zarr", dataset, small_teacher(tmp_path, seed=2), views=1)
    with pytest.raises(StoreError, match=r"can't teach together: teacher.state_sha256 is \w+ ther"):
        SoftLabels.open_pair(pair[0].store.where, other.store.where)
    with pytest.raises(StoreError, match="can't teach together"):
        losses_of(config(), dataset, tmp_path / "run", soft_labels=(pair[0], other))


def test_another_sample_order_is_named(tmp_path, dataset, teacher, pair):
    turned = dataclasses.replace(
        dataset, images=dataset.images[::-1].copy(), targets=dataset.targets[::-1].copy()
    )
    small_store(tmp_path / "o.zarr", turned, teacher, augmentation="center", views=1)
    with pytest.raises(StoreError, match=r"dataset.fingerprint is \w+ there, \w+ here$"):
        SoftLabels.open_pair(pair[0].store.where, tmp_path / "o.zarr")


def test_fewer_samples_are_named(tmp_path, dataset, teacher, pair):
    small_store(tmp_path / "o.zarr", dataset.head(60), teacher, augmentation="center", views=1)
    with pytest.raises(StoreError, match="dataset.samples is 120 there, 60 here"):
        SoftLabels.open_pair(pair[0].store.where, tmp_path / "o.zarr")


def test_both_or_neither_is_corrected(tmp_path, pair):
    weak, strong = pair
    swap = corrected(strong, "swap", tmp_path / "swap.zarr")
    with pytest.raises(StoreError, match="correction is None there, swap here"):
        SoftLabels.open_pair(weak.store.where, swap.store.where)
    read = SoftLabels.open_pair(weak.store.where, strong.store.where, correction="sort")
    assert [each.corrected_by for each in read] == ["sort", "sort"]
    assert read[1].order == Stream.STRONG_VIEW_ORDER


def test_the_same_store_twice_is_refused(pair):
    with pytest.raises(UsageError, match="are the same store: give one of weak views, then"):
        SoftLabels.open_pair(pair[0].store.where, pair[0].store.where)


def test_two_stores_of_one_augmentation_are_refused(tmp_path, dataset, teacher, pair):
    """Their seeds differ, their views are alike."""
    small_store(tmp_path / "o.zarr", dataset, teacher, views=1, seed=5)
    with pytest.raises(UsageError, match="both hold cifar-weak views: give one store of weak"):
        SoftLabels.open_pair(pair[0].store.where, tmp_path / "o.zarr")


def test_the_weak_store_comes_first(pair, monkeypatch):
    """Whatever their names are, but for what their names say."""
    manifests = {soft.store.where: soft.manifest for soft in pair}
    drawn = dataclasses.replace(pair[1].manifest.augmentation, name="cifar-strong")
    where = pair[1].store.where
    manifests[where] = dataclasses.replace(manifests[where], augmentation=drawn)
    monkeypatch.setattr(SoftLabels, "manifest", property(lambda soft: manifests[soft.store.where]))
    assert paired(*pair) == pair
    with pytest.raises(UsageError, match="holds cifar-strong views, .* cifar-weak: give the weak"):
        paired(pair[1], pair[0])


# ---- How many stores a loss takes


@pytest.mark.parametrize("loss", ["sld", "mlkd", "mlkd+ls"])
def test_a_loss_of_two_views_says_what_to_give(tmp_path, dataset, pair, loss):
    message = f"--loss {loss.replace('+', '.')} learns from a weak and a strong view of each image"
    with pytest.raises(UsageError, match=f"{message}.*weak.zarr holds one.*WEAK STRONG"):
        losses_of(config(loss=loss), dataset, tmp_path / "run", soft_labels=pair[0])


@pytest.mark.parametrize("loss", ["ce", "kd", "dkd", "sld-kd"])
def test_a_loss_of_one_view_says_what_to_give(tmp_path, dataset, pair, loss):
    message = f"--loss {loss} learns from one view of each image: give one of .*weak.zarr and"
    with pytest.raises(UsageError, match=message):
        losses_of(config(loss=loss), dataset, tmp_path / "run", soft_labels=pair)


def test_strong_views_are_only_drawn_where_they_are_learned_from(tmp_path, dataset, pair, teacher):
    run = config(strong_augmentation="cifar-weak")
    with pytest.raises(UsageError, match="--strong-augmentation cifar-weak: strong views are draw"):
        losses_of(run, dataset, tmp_path / "run", soft_labels=pair)
    run = config(loss="kd", strong_augmentation="cifar-weak")
    with pytest.raises(UsageError, match="--strong-augmentation cifar-weak"):
        losses_of(run, dataset, tmp_path / "run", teacher=teacher)


def test_three_stores_are_refused(tmp_path, dataset, pair):
    with pytest.raises(UsageError, match="from one store, or from a weak and a strong one, not fr"):
        train(config(), dataset, out=tmp_path / "run", soft_labels=(*pair, pair[0]))


def test_another_strong_store_stops_a_run(tmp_path, dataset, teacher, pair):
    losses_of(config(epochs=1), dataset, tmp_path / "run", soft_labels=pair)
    other = small_store(
        tmp_path / "o.zarr", dataset, teacher, augmentation="cifar-weak:pad=2", views=2, seed=6
    )
    with pytest.raises(Exception, match="learned from something else.*strong soft labels was"):
        losses_of(config(epochs=1), dataset, tmp_path / "run", soft_labels=(pair[0], other))
