"""The probe tells a teacher's other code from the same, and no device or batch from another."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitbank.pipeline.datasets import open_dataset
from logitbank.pipeline.models import load_model, normalise
from logitbank.pipeline.teacher import CacheSettings, require_same_teacher, teacher_probe
from logitbank.pipeline.teacher.probe import probe_difference, probe_pixels
from logitbank.pipeline.views import parse_augmentation
from logitbank.stores.errors import LogitbankError, StoreError
from logitbank.stores.manifest import Manifest, Measured, Probe
from logitbank.stores.reader import Store
from tests.stores.store_examples import manifest, write_store

AUGMENTATION = parse_augmentation("cifar-weak", size=32)


@pytest.fixture(scope="module")
def digits():
    return open_dataset("digits").head(30)


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    return load_model("cifar:resnet8", classes=10)


@pytest.fixture(scope="module")
def probe(digits, teacher) -> Probe:
    return teacher_probe(teacher, probe_pixels(digits, AUGMENTATION, 5), "cpu")


def test_it_is_what_the_teacher_says_of_view_0_of_the_first_samples(digits, teacher, probe):
    params = AUGMENTATION.draw(5, np.arange(8), 0, [(32, 32)])
    views = np.stack([AUGMENTATION.render(digits.images[n], params[n]) for n in range(8)])
    with torch.inference_mode():
        said = teacher.module.eval()(normalise(torch.from_numpy(views), teacher.normalisation))
    np.testing.assert_allclose(probe.logits, said.numpy(), rtol=1e-4, atol=1e-5)


def test_fewer_samples_and_many_classes_make_it_smaller(digits):
    torch.manual_seed(0)
    many = load_model("cifar:resnet8", classes=1000)
    pixels = probe_pixels(digits, AUGMENTATION, 5)
    assert np.shape(teacher_probe(many, pixels, "cpu").logits) == (4, 1000)
    assert len(probe_pixels(digits.head(3), AUGMENTATION, 5)) == 3


def test_other_arithmetic_is_the_same_teacher(digits, teacher, probe):
    """Float64 and channels_last stand for other devices: both change the last bits."""
    views = normalise(probe_pixels(digits, AUGMENTATION, 5), teacher.normalisation)
    network = copy.deepcopy(teacher.module).eval()
    with torch.inference_mode():
        last = network.to(memory_format=torch.channels_last)(views)
        double = network.double()(views.double())
    for logits in (last, double):
        assert probe_difference(Probe(tuple(map(tuple, logits.tolist()))), probe) is None


@pytest.mark.parametrize(
    "change", [lambda z: z * 1.01, lambda z: z + 0.01, lambda z: z.clamp(max=0.1)]
)
def test_a_change_of_one_percent_is_another_teacher(probe, change):
    changed = change(torch.tensor(probe.logits, dtype=torch.float64))
    assert probe_difference(Probe(tuple(map(tuple, changed.tolist()))), probe) is not None


@given(st.integers(0, 7), st.integers(0, 9), st.floats(0.01, 1e6) | st.just(float("nan")))
def test_one_logit_is_enough(probe, row, place, more):
    rows = [list(each) for each in probe.logits]
    rows[row][place] += more
    line = probe_difference(Probe(tuple(map(tuple, rows))), probe)
    assert line is not None
    assert f"for sample {row} was " in line


def test_another_shape_is_another_teacher(probe):
    fewer = Probe(tuple(row[:9] for row in probe.logits))
    assert "it gave (8, 10) logits" in probe_difference(fewer, probe)


def test_a_random_teacher_is_not_taken_for_one_whose_code_changed(digits, teacher, probe):
    class Random(torch.nn.Module):
        def forward(self, images):
            return torch.randn(len(images), 10)

    other = dataclasses.replace(teacher, module=Random())
    views = probe_pixels(digits, AUGMENTATION, 5)
    found = teacher_probe(other, views, "cpu")
    settings = CacheSettings(views=1, batch_size=16)
    with pytest.raises(LogitbankError, match="other logits each time it is run"):
        require_same_teacher(found, probe, other, views, settings, "raw.zarr")
    with pytest.raises(StoreError, match="raw.zarr was begun by a teacher with other logits"):
        require_same_teacher(found, probe, teacher, views, settings, "raw.zarr")


def test_it_lies_beside_the_identity_in_the_manifest(tmp_path, probe):
    probe = Probe(tuple(row[:7] for row in probe.logits))
    plain, probed = manifest(), manifest(measured=Measured(probe=probe))
    assert plain.identity() == probed.identity()
    assert "probe" not in plain.to_attributes()["measured"]
    assert Manifest.from_attributes(probed.to_attributes(), "x") == probed
    digests = [
        write_store(tmp_path / str(n), each).digest for n, each in enumerate((plain, probed))
    ]
    assert digests[0] == digests[1]
    assert Store.open(tmp_path / "1").manifest.measured.probe == probe
