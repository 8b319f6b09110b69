"""Losses against their plain definitions in float64."""

from __future__ import annotations

import doctest
import importlib
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from logitbank.pipeline.losses import DatasetKind, published_loss
from logitbank.pipeline.losses.cross_entropy import cross_entropy_loss
from logitbank.pipeline.losses.kd import KD, kd_loss
from logitbank.stores.errors import UsageError
from tests.reference import losses as reference

LOGITS = st.floats(-1e4, 1e4, width=32)
TEMPERATURES = st.sampled_from([0.5, 1.0, 2.0, 4.0, 20.0])


def pairs(elements: st.SearchStrategy[float]) -> st.SearchStrategy:
    shapes = st.tuples(st.integers(1, 5), st.integers(2, 12))
    return shapes.flatmap(
        lambda shape: st.tuples(*(npst.arrays(np.float64, shape, elements=elements),) * 2)
    )


@given(pairs(LOGITS), TEMPERATURES)
def test_kd_is_its_definition(logits, temperature):
    student, teacher = logits
    found = kd_loss(torch.tensor(student), torch.tensor(teacher), temperature).item()
    assert found == pytest.approx(reference.kd(student, teacher, temperature), rel=1e-9, abs=1e-8)


@given(pairs(LOGITS), TEMPERATURES)
def test_kd_gradient_is_the_difference_of_the_distributions(logits, temperature):
    student, teacher = logits
    s = torch.tensor(student, requires_grad=True)
    kd_loss(s, torch.tensor(teacher), temperature).backward()
    expected = reference.kd_gradient(student, teacher, temperature)
    np.testing.assert_allclose(s.grad.numpy(), expected, rtol=1e-9, atol=1e-12)


@given(pairs(st.floats(-30, 30, width=32)), TEMPERATURES)
def test_kd_in_float32_is_near_its_definition(logits, temperature):
    student, teacher = logits
    found = kd_loss(
        torch.tensor(student, dtype=torch.float32),
        torch.tensor(teacher, dtype=torch.float32),
        temperature,
    ).item()
    assert found == pytest.approx(
        reference.kd(student, teacher, temperature), rel=1e-5, abs=1e-5 * temperature**2
    )


def test_kd_worked_by_hand():
    # softmax([0, 0]) = (1/2, 1/2), softmax([ln 3, 0]) = (3/4, 1/4), at T = 2 of twice the logits.
    student = torch.zeros(1, 2)
    teacher = torch.tensor([[2 * math.log(3), 0.0]])
    kl = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert kd_loss(student, teacher, 2.0).item() == pytest.approx(4 * kl, rel=1e-6)


def test_kd_of_equal_logits_is_zero():
    logits = torch.randn(7, 10)
    assert kd_loss(logits, logits, 4.0).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_of_extreme_logits_is_finite(temperature):
    student = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], requires_grad=True)
    teacher = torch.tensor([[-1e4, 1e4, 0.0], [1e4, -1e4, 1e4]])
    loss = kd_loss(student, teacher, temperature)
    loss.backward()
    expected = reference.kd(student.detach().numpy(), teacher.numpy(), temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert torch.isfinite(student.grad).all()


def test_kd_passes_gradcheck():
    student = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: kd_loss(s, teacher, 3.0), student)


def test_kd_gives_the_gradient_of_cross_entropy_with_the_teachers_softmax():
    logits, teacher = torch.randn(8, 10), torch.randn(8, 10)
    ours, other = (logits.clone().requires_grad_() for _ in range(2))
    kd_loss(ours, teacher, 4.0).backward()
    (16 * F.cross_entropy(other / 4, torch.softmax(teacher / 4, 1))).backward()
    torch.testing.assert_close(ours.grad, other.grad, rtol=1e-5, atol=1e-7)


def test_kd_teaches_only_the_student():
    student, teacher = (torch.randn(2, 3, requires_grad=True) for _ in range(2))
    kd_loss(student, teacher, 1.0).backward()
    assert teacher.grad is None


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_losses_of_half_precision_are_computed_in_float32(half):
    student, teacher = (torch.randn(4, 9).to(half) for _ in range(2))
    targets = torch.tensor([0, 8, 3, 3])
    assert kd_loss(student, teacher, 4.0) == kd_loss(student.float(), teacher.float(), 4.0)
    ours = cross_entropy_loss(student, targets)
    assert ours == cross_entropy_loss(student.float(), targets)


@given(pairs(LOGITS))
def test_cross_entropy_is_its_definition(logits):
    rows, _ = logits
    targets = np.arange(len(rows)) % rows.shape[1]
    found = cross_entropy_loss(torch.tensor(rows), torch.tensor(targets)).item()
    assert found == pytest.approx(reference.cross_entropy(rows, targets), rel=1e-9, abs=1e-9)


def test_published_weights():
    assert KD(ce=0.1, kd=0.9, temperature=4.0) == published_loss("kd", DatasetKind.CIFAR)
    assert KD(ce=0.5, kd=0.5, temperature=1.0) == published_loss("kd", DatasetKind.IMAGENET)


@pytest.mark.parametrize(
    ("setting", "value"), [("ce", -0.1), ("kd", math.nan), ("temperature", 0.0)]
)
def test_weights_that_cannot_be_meant_are_refused(setting, value):
    with pytest.raises(UsageError, match=f"{setting} must be finite and .*, not {value}"):
        KD(**{"ce": 0.1, "kd": 0.9, "temperature": 4.0, setting: value})


@pytest.mark.parametrize("module", ["", ".ctkd", ".dkd", ".loss", ".published", ".sld"])
def test_the_examples_in_docstrings_are_true(module):
    found = doctest.testmod(importlib.import_module(f"logitbank.pipeline.losses{module}"))
    assert found.attempted > 0
    assert found.failed == 0
