"""The teacher stage: what it writes is what the teacher said, and nothing else is written."""

from __future__ import annotations

import dataclasses
import errno
import os

import numpy as np
import pytest
import torch

from logitbank.pipeline.datasets import open_dataset
from logitbank.pipeline.models import default_normalisation, load_model, normalise
from logitbank.pipeline.store_task import fill_store
from logitbank.pipeline.teacher import (
    CacheSettings,
    TeacherTask,
    raw_manifest,
    require_expected_top1,
)
from logitbank.pipeline.views import parse_augmentation
from logitbank.stores.errors import LogitbankError, StoreError, UsageError
from logitbank.stores.manifest import Measured
from logitbank.stores.reader import Store
from logitbank.stores.writer import StoreWriter
from tests.reference import mixed_views
from tests.reference.corrections import true_order

SETTINGS = CacheSettings(views=3, seed=5, batch_size=16, block_rows=20, encoding="float32")


@pytest.fixture(scope="module")
def digits():
    return open_dataset("digits", "train").head(50)


@pytest.fixture(scope="module")
def teacher(digits):
    torch.manual_seed(0)
    return load_model(
        "cifar:resnet8", classes=10, normalisation=default_normalisation(digits), input_size=32
    )


def cache(path, dataset, teacher, settings=SETTINGS, augmentation="cifar-weak") -> Store:
    augmentation = parse_augmentation(augmentation, size=32, samples=len(dataset))
    fill_store(TeacherTask.of(dataset, teacher, augmentation, settings, str(path)))
    return Store.open(path)


def test_logits_are_the_teachers_on_the_stored_views(tmp_path, digits, teacher):
    store = cache(tmp_path / "raw.zarr", digits, teacher)
    augmentation = parse_augmentation("cifar-weak", size=32)
    for view in range(3):
        params = store.read_view("view_params", view)
        pixels = np.stack(
            [augmentation.render(digits.images[n], params[n]) for n in range(len(digits))]
        )
        with torch.inference_mode():
            images = normalise(torch.from_numpy(pixels), teacher.normalisation)
            expected = teacher.module.eval()(images).numpy()
        logits = store.read_view("logits", view)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
        top = store.read_view("top", view)
        for n in range(len(digits)):
            assert top[n].tolist() == true_order(logits[n].tolist(), digits.targets[n])
    np.testing.assert_array_equal(store.target, digits.targets)
    np.testing.assert_array_equal(store.sample_id, digits.sample_ids)


@pytest.mark.parametrize("mix", ["mixup:alpha=1", "cutmix"])
def test_a_mixed_row_is_of_the_mixed_pixels_and_right_by_its_larger_share(
    tmp_path, digits, teacher, mix
):
    store = cache(tmp_path / "raw.zarr", digits, teacher, augmentation=f"cifar-weak+{mix}")
    identity = store.manifest.augmentation
    ranks = np.zeros(11, int)
    for view in range(3):
        params, logits, top = (
            store.read_view(name, view) for name in ("view_params", "logits", "top")
        )
        plain = [
            mixed_views.render(identity.name, identity.parameters, digits.pixels, n, params[n])
            for n in range(len(digits))
        ]
        with torch.inference_mode():
            images = normalise(torch.from_numpy(np.stack(plain)), teacher.normalisation)
            expected = teacher.module.eval()(images).numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
        for n, row in enumerate(params):
            is_own = mixed_views.own_share(identity.name, 32, row) >= 0.5
            label = int(digits.targets[n if is_own else row[0]])
            assert top[n].tolist() == true_order(logits[n].tolist(), label)
            ranks[top[n].tolist().index(label)] += 1
    measured = store.manifest.measured
    assert measured.label_ranks == tuple(ranks)
    assert measured.top1 == pytest.approx(100 * ranks[0] / 150, abs=1e-4)
    np.testing.assert_array_equal(store.target, digits.targets)


@pytest.mark.parametrize("changes", [{"block_rows": 7}, {"workers": 1}, {"block_rows": None}])
def test_a_row_depends_on_no_neighbour(tmp_path, digits, teacher, changes):
    """Blocks cut batches at other places; the bits stay."""
    whole = cache(tmp_path / "whole.zarr", digits, teacher)
    cut = cache(tmp_path / "cut.zarr", digits, teacher, dataclasses.replace(SETTINGS, **changes))
    for name in ("logits", "top", "view_params", "pixel_crc"):
        for view in range(3):
            np.testing.assert_array_equal(cut.read_view(name, view), whole.read_view(name, view))


def test_two_runs_have_one_digest_and_another_teacher_another(tmp_path, digits, teacher):
    first = cache(tmp_path / "one.zarr", digits, teacher)
    again = cache(tmp_path / "two.zarr", digits, teacher)
    assert first.manifest.digest == again.manifest.digest
    torch.manual_seed(1)
    other = load_model(
        "cifar:resnet8", classes=10, normalisation=teacher.normalisation, input_size=32
    )
    wanted = raw_manifest(digits, other, parse_augmentation("cifar-weak", size=32), SETTINGS)
    with pytest.raises(StoreError, match=r"holds other work: teacher\.state_sha256"):
        StoreWriter.open(tmp_path / "one.zarr", wanted, digits.targets, digits.sample_ids)


def test_a_failed_write_stops_the_job_and_a_second_run_goes_on(
    tmp_path, digits, teacher, monkeypatch
):
    replace, count = os.replace, 0

    def full_later(source, target):
        nonlocal count
        if "raw.zarr/logits/c/" in str(target):
            count += 1
            if count == 4:
                raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full_later)
    with pytest.raises(StoreError, match="the disk is full: .*logits/c/1/0/0 was not written"):
        cache(tmp_path / "raw.zarr", digits, teacher)
    monkeypatch.undo()
    done = cache(tmp_path / "raw.zarr", digits, teacher)
    whole = cache(tmp_path / "whole.zarr", digits, teacher)
    assert done.manifest.digest == whole.manifest.digest


class Broken(torch.nn.Module):
    """Gives what it is told for one sample of bright pixels, zeros else."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value
        self.calls = 0

    def forward(self, images):
        logits = torch.zeros(len(images), 10)
        self.calls += 1
        if self.calls == 2:
            logits[3, 4] = self.value
        return logits


def test_logits_that_are_not_finite_stop_the_job_and_name_the_sample(tmp_path, digits, teacher):
    broken = dataclasses.replace(teacher, module=Broken(float("nan")))
    with pytest.raises(LogitbankError, match=r"\(sample 19, view 0\) are not finite"):
        cache(tmp_path / "raw.zarr", digits, broken)
    with pytest.raises(StoreError, match="is incomplete"):
        Store.open(tmp_path / "raw.zarr")


def test_logits_that_float16_does_not_hold_name_the_sample(tmp_path, digits, teacher):
    broken = dataclasses.replace(teacher, module=Broken(70000.0))
    settings = dataclasses.replace(SETTINGS, encoding="float16")
    with pytest.raises(LogitbankError, match=r"view 0: row 19 has .* 70000, .*--encoding float32"):
        cache(tmp_path / "raw.zarr", digits, broken, settings)


@pytest.mark.parametrize(
    ("top1", "samples", "expected", "stops"),
    [
        (73.5, 10_000, 76.0, True),
        (75.0, 10_000, 76.0, False),
        (60.0, 100, 76.0, True),
        (63.0, 100, 76.0, False),
        (99.0, 100, 76.0, False),
    ],
)
def test_a_badly_fed_teacher_is_stopped_beyond_a_point_and_three_errors(
    top1, samples, expected, stops
):
    """At 76%, one standard error is 0.43 points of 10,000 samples and 4.27 of 100."""
    measured = Measured(clean_top1=top1, clean_split="test", clean_samples=samples)
    if not stops:
        require_expected_top1("cifar:resnet8@x", measured, expected)
        return
    with pytest.raises(LogitbankError, match="normalisation, interpolation .* order of classes"):
        require_expected_top1("cifar:resnet8@x", measured, expected)


def test_views_of_another_size_and_too_many_views_are_usage_errors(digits, teacher):
    with pytest.raises(UsageError, match="makes views of size 24, but cifar:resnet8 takes 32"):
        raw_manifest(digits, teacher, parse_augmentation("cifar-weak:size=24"), SETTINGS)
    many = dataclasses.replace(SETTINGS, views=163)
    with pytest.raises(UsageError, match="163 views are more than cifar-weak .* has: 162"):
        raw_manifest(digits, teacher, parse_augmentation("cifar-weak"), many)
