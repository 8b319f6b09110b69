"""Students of mixed views: labels of both images in the loss, the teacher's word on the mix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from logitbank.pipeline.inference import forward_logits
from logitbank.pipeline.models import load_model, normalise
from logitbank.pipeline.models.normalisation import default_normalisation
from logitbank.pipeline.soft_labels import SoftLabels
from logitbank.pipeline.student import train
from logitbank.pipeline.student.batches import MemoryBatches, WorkerBatches
from logitbank.pipeline.views import ViewRenderer
from logitbank.pipeline.views.draws import epoch_order, view_of_epoch
from logitbank.stores.errors import PixelError, UsageError
from tests.pipeline.student.student_examples import (
    BATCH,
    CLASSES,
    losses_of,
    relabelled,
    same_weights,
    small_config,
    small_dataset,
    small_store,
    small_teacher,
)
from tests.pipeline.student.student_nets import DROPOUT_NET
from tests.pipeline.student.test_batches import all_batches, photos
from tests.reference import mixed_views as reference

SAMPLES = 120
AUGMENTATIONS = {"mixup": "cifar-weak+mixup:alpha=1", "cutmix": "cifar-weak+cutmix:pad=2"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mixed")


@pytest.fixture(scope="module")
def dataset():
    return small_dataset(SAMPLES)


@pytest.fixture(scope="module")
def teacher(folder):
    return small_teacher(folder)


@pytest.fixture(scope="module")
def stores(folder, dataset, teacher):
    return {
        name: small_store(folder / f"{name}.zarr", dataset, teacher, augmentation=augmentation)
        for name, augmentation in AUGMENTATIONS.items()
    }


def config(**changes):
    return small_config(**{"student": DROPOUT_NET} | changes)


def plain_weights(soft: SoftLabels, target: np.ndarray, view: int, sample: int) -> np.ndarray:
    identity, params = soft.manifest.augmentation, soft.augmentation.params(view, [sample])[0]
    share = float(reference.own_share(identity.name, identity.size, params))
    weights = np.zeros(CLASSES)
    weights[target[sample]] += share
    weights[target[params[0]]] += 1 - share
    return weights


# ---- batches


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("workers", [0, 2])
def test_memory_and_workers_give_the_same_batches(dataset, stores, name, workers):
    soft, order = stores[name], np.random.default_rng(0).permutation(SAMPLES)
    made = config(workers=workers)
    one = all_batches(MemoryBatches(dataset, soft.augmentation, made, SAMPLES), 2, order)
    other = all_batches(WorkerBatches(dataset, soft.augmentation, made), 2, order)
    for mine, theirs in zip(one, other, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    targets = torch.cat([targets for _, targets, _ in one])
    assert targets.dtype == torch.float32
    expected = [plain_weights(soft, dataset.targets, 2, sample) for sample in order]
    np.testing.assert_allclose(targets, np.stack(expected), atol=1e-7)


@pytest.mark.parametrize("skip", [0, 40])
def test_some_samples_are_trained_on_with_partners_from_all_of_the_store(dataset, stores, skip):
    soft, chosen = stores["mixup"], skip + np.arange(30)
    made = MemoryBatches(dataset, soft.augmentation, config(skip=skip), 30)
    ((_, targets, rows),) = all_batches(made, 0, chosen)
    assert rows.tolist() == chosen.tolist()
    expected = [plain_weights(soft, dataset.targets, 0, sample) for sample in chosen]
    np.testing.assert_allclose(targets, np.stack(expected), atol=1e-7)
    assert not np.isin(soft.augmentation.params(0, chosen)[:, 0], chosen).all()


# ---- training


def first_batch(dataset, soft, teacher) -> tuple[torch.Tensor, ...]:
    """The student's and the teacher's logits and the class weights of the first step, plainly."""
    view = view_of_epoch(0, soft.views, 0)
    chosen = epoch_order(0, SAMPLES, 0)[:BATCH]
    params = soft.augmentation.params(view, chosen)
    pixels = ViewRenderer(dataset, soft.augmentation.kind).render(chosen, params)
    torch.manual_seed(0)
    student = load_model(
        "cifar:resnet8",
        classes=CLASSES,
        normalisation=default_normalisation(dataset),
        input_size=32,
    )
    student.module.train()
    logits = student.module(normalise(pixels, student.normalisation)).detach()
    said = forward_logits(teacher, pixels, batch_size=BATCH, device="cpu")
    weights = [plain_weights(soft, dataset.targets, view, sample) for sample in chosen]
    return logits, said, torch.from_numpy(np.stack(weights)).float()


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_first_loss_is_that_of_both_labels_and_of_the_teacher_on_the_mixed_pixels(
    tmp_path, dataset, stores, teacher, name
):
    soft = stores[name]
    logits, said, weights = first_batch(dataset, soft, teacher)
    ce = -(weights * F.log_softmax(logits, dim=1)).sum(dim=1).mean()
    student, taught = (F.log_softmax(each / 4, dim=1) for each in (logits, said))
    kd = 16 * (taught.exp() * (taught - student)).sum(dim=1).mean()
    changes = {"student": "cifar:resnet8", "epochs": 1}
    losses = losses_of(config(**changes), dataset, tmp_path / "kd", soft_labels=soft)
    assert losses[0] == pytest.approx(float(0.1 * ce + 0.9 * kd), rel=1e-5)
    labels = config(**changes, loss="ce")
    losses = losses_of(labels, dataset, tmp_path / "ce", soft_labels=soft)
    assert losses[0] == pytest.approx(float(ce), rel=1e-5)


@pytest.mark.parametrize("loss", ["kd", "lskd", "ctkd"])
def test_cached_equals_the_teacher_in_the_loop_bit_for_bit(
    tmp_path, dataset, stores, teacher, loss
):
    soft = stores["cutmix"]
    made = config(loss=loss, batch_size=64)
    cached = losses_of(made, dataset, tmp_path / "cached", soft_labels=soft)
    online = losses_of(made, dataset, tmp_path / "online", soft_labels=soft, teacher=teacher)
    assert cached == online
    assert same_weights(tmp_path / "cached", tmp_path / "online")


@pytest.mark.parametrize("loss", ["kd", "ce"])
def test_a_run_that_was_killed_ends_with_the_same_weights(tmp_path, dataset, stores, loss):
    made = config(loss=loss, epochs=3)
    whole = losses_of(made, dataset, tmp_path / "whole", soft_labels=stores["mixup"])

    def kill(step: int, loss: float) -> None:
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(made, dataset, out=tmp_path / "run", soft_labels=stores["mixup"], on_step=kill)
    rest = losses_of(made, dataset, tmp_path / "run", soft_labels=stores["mixup"])
    assert rest == whole[3:]
    assert same_weights(tmp_path / "run", tmp_path / "whole")


def test_image_files_are_mixed_alike_by_any_number_of_workers(tmp_path, teacher):
    files = photos(tmp_path / "photos")
    soft = small_store(tmp_path / "files.zarr", files, teacher, augmentation="imagenet-weak+cutmix")
    runs = {
        workers: losses_of(
            config(batch_size=8, workers=workers, epochs=1),
            files,
            tmp_path / f"run-{workers}",
            soft_labels=soft,
        )
        for workers in (0, 2)
    }
    assert runs[0] == runs[2]
    online = losses_of(
        config(batch_size=8, epochs=1), files, tmp_path / "on", soft_labels=soft, teacher=teacher
    )
    assert online == pytest.approx(runs[0], rel=1e-5)


def test_a_changed_partner_stops_a_run_before_its_first_step(tmp_path, folder, dataset, stores):
    """With ids that don't tell: the dataset's fingerprint is the cached one."""
    images = dataset.images.copy()
    images[7] = 255 - images[7]
    changed = relabelled(dataset, images=images)
    object.__setattr__(changed, "sample_ids", dataset.sample_ids)
    params = stores["mixup"].augmentation.params(view_of_epoch(0, 3, 0), range(SAMPLES))
    with pytest.raises(PixelError, match="its pixels are not those the teacher saw") as refusal:
        train(config(), changed, out=tmp_path / "run", soft_labels=stores["mixup"])
    named = int(str(refusal.value).split()[1])
    assert 7 in (named, params[named, 0])


# ---- what can't learn from them


@pytest.mark.parametrize("loss", ["dkd", "dkd+ls", "sld-kd"])
def test_losses_that_need_one_label_are_refused_before_any_work(tmp_path, dataset, stores, loss):
    with pytest.raises(UsageError, match="mixed images have two labels: use a store without"):
        train(config(loss=loss), dataset, out=tmp_path / "run", soft_labels=stores["mixup"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("loss", ["mlkd", "mlkd+ls", "sld"])
def test_losses_of_two_views_are_refused_before_any_work(tmp_path, dataset, stores, loss):
    """One such store is not answered by asking for a second one."""
    with pytest.raises(UsageError, match=r"mixup\.zarr: --loss \S+ learns from two views"):
        train(config(loss=loss), dataset, out=tmp_path / "run", soft_labels=stores["mixup"])
    pair = tuple(stores.values())
    with pytest.raises(UsageError, match=r"mixup\.zarr can't be one of two"):
        train(config(loss=loss), dataset, out=tmp_path / "run", soft_labels=pair)
    with pytest.raises(UsageError, match="take stores without MixUp and CutMix"):
        SoftLabels.open_pair(*(soft.store.where for soft in pair))
    assert not (tmp_path / "run").exists()


def test_strong_views_of_a_teacher_in_the_loop_are_not_mixed(tmp_path, dataset, teacher):
    made = config(loss="mlkd", strong_augmentation="cifar-strong+mixup")
    with pytest.raises(UsageError, match="--strong-augmentation cifar-strong.mixup: the two views"):
        train(made, dataset, out=tmp_path / "run", teacher=teacher)
