"""SLD's two teachers, against their plain definition in float64."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given

from logitbank.pipeline.losses import DatasetKind, published_loss
from logitbank.pipeline.losses.kd import kd_loss
from logitbank.pipeline.losses.sld import (
    SLD,
    has_second_teacher,
    second_teacher_loss,
    teacher_loss,
)
from logitbank.pipeline.losses.swap import swap_logits
from logitbank.stores.errors import UsageError
from tests.pipeline.losses.loss_examples import EXTREMES, batches, extreme, random_batch
from tests.reference import corrections
from tests.reference import losses as reference

CIFAR_SLD = published_loss("sld", DatasetKind.CIFAR)
AS_STORED = dataclasses.replace(CIFAR_SLD, swap_teacher=False)
STOPPED = dataclasses.replace(CIFAR_SLD, stop_gradient=True)
TEMPERATURES = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


@given(batches(2, min_classes=1))
def test_the_teachers_term_is_its_definition(batch):
    (student, teacher), labels = batch
    expected = reference.sld_teacher(student, teacher, labels, TEMPERATURES)
    found = teacher_loss(*map(torch.tensor, (student, teacher, labels)), CIFAR_SLD).item()
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-8)


@pytest.mark.parametrize("settings", [CIFAR_SLD, STOPPED])
@given(batch=batches(1, min_classes=1))
def test_the_second_teachers_term_is_its_definition(settings, batch):
    (student,), labels = batch
    expected = reference.sld_second_teacher(student, labels, TEMPERATURES)
    found = second_teacher_loss(torch.tensor(student), torch.tensor(labels), settings).item()
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-8)


@pytest.mark.parametrize("settings", [CIFAR_SLD, STOPPED])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", EXTREMES)
def test_both_terms_of_extreme_logits_are_finite(name, dtype, settings):
    student, teacher, labels = extreme(name, dtype)
    loss = teacher_loss(student, teacher, labels, settings)
    loss = loss + second_teacher_loss(student, labels, settings)
    loss.backward()
    rows = student.detach().numpy()
    expected = reference.sld_teacher(rows, teacher.numpy(), labels.numpy(), TEMPERATURES)
    expected += reference.sld_second_teacher(rows, labels.numpy(), TEMPERATURES)
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert torch.isfinite(student.grad).all()


def test_both_terms_pass_gradcheck():
    student, teacher, labels = random_batch(2)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: teacher_loss(s, teacher, labels, CIFAR_SLD), student)
    assert torch.autograd.gradcheck(lambda s: second_teacher_loss(s, labels, CIFAR_SLD), student)


def test_no_gradient_flows_into_the_teacher():
    student, teacher, labels = random_batch(2)
    teacher.requires_grad_()
    teacher_loss(student.requires_grad_(), teacher, labels, CIFAR_SLD).backward()
    assert teacher.grad is None


def test_the_gradient_flows_through_the_students_swap_unless_it_is_stopped():
    student, labels = random_batch(1)

    def gradient(loss):
        own = student.clone().requires_grad_()
        loss(own).backward()
        return own.grad

    constant = swap_logits(student, labels)
    stopped = gradient(lambda s: second_teacher_loss(s, labels, STOPPED))
    as_kd = gradient(lambda s: sum(kd_loss(s, constant, t) for t in TEMPERATURES))
    torch.testing.assert_close(stopped, as_kd)
    as_released = gradient(lambda s: second_teacher_loss(s, labels, CIFAR_SLD))
    assert not torch.allclose(as_released, stopped)


def test_the_second_teacher_worked_by_hand():
    # (3/4, 1/4) with the label second, against (1/4, 3/4).
    student = torch.tensor([[math.log(3), 0.0]])
    settings = SLD(ce=0.1, kd=0.9, temperatures=(1.0,))
    kl = 0.25 * math.log(0.25 / 0.75) + 0.75 * math.log(0.75 / 0.25)
    found = second_teacher_loss(student, torch.tensor([1]), settings).item()
    assert found == pytest.approx(kl)
    assert second_teacher_loss(student, torch.tensor([0]), settings).item() == 0


@given(batches(2, distinct=True))
def test_a_teacher_that_is_right_teaches_as_kd_at_six_temperatures(batch):
    (student, teacher), _ = batch
    student, teacher = torch.tensor(student), torch.tensor(teacher)
    plain = sum(kd_loss(student, teacher, t) for t in TEMPERATURES)
    found = teacher_loss(student, teacher, teacher.argmax(dim=1), CIFAR_SLD)
    torch.testing.assert_close(found, plain)


@given(batches(1))
def test_a_student_that_is_right_has_nothing_to_learn_from_itself(batch):
    (student,), _ = batch
    student = torch.tensor(student)
    assert second_teacher_loss(student, student.argmax(dim=1), CIFAR_SLD).item() == 0


@given(batches(2, largest=3))
def test_raw_logits_swapped_here_are_swapped_ones_taken_as_they_are(batch):
    (student, teacher), labels = batch
    swapped = np.array([reference.swap(row, y) for row, y in zip(teacher, labels, strict=True)])
    student, teacher, swapped, labels = map(torch.tensor, (student, teacher, swapped, labels))
    as_read = teacher_loss(student, teacher, labels, CIFAR_SLD)
    assert torch.equal(as_read, teacher_loss(student, swapped, labels, AS_STORED))
    assert torch.equal(as_read, teacher_loss(student, swapped, labels, CIFAR_SLD))


@given(batches(2, distinct=True))
def test_sorted_logits_are_taken_as_they_are(batch):
    (student, teacher), labels = batch
    rows = zip(teacher, labels, strict=True)
    ranked = np.array([corrections.sort(z, corrections.true_order(z, y), y) for z, y in rows])
    student, ranked, labels = map(torch.tensor, (student, ranked, labels))
    plain = sum(kd_loss(student, ranked, t) for t in TEMPERATURES)
    torch.testing.assert_close(teacher_loss(student, ranked, labels, AS_STORED), plain)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(half):
    student, teacher, labels = random_batch(2)
    student, teacher = student.to(half), teacher.to(half)
    wide = teacher_loss(student.float(), teacher.float(), labels, CIFAR_SLD)
    assert teacher_loss(student, teacher, labels, CIFAR_SLD) == wide
    wide = second_teacher_loss(student.float(), labels, CIFAR_SLD)
    assert second_teacher_loss(student, labels, CIFAR_SLD) == wide


@pytest.mark.parametrize("gamma", [30, 150])
def test_the_second_teacher_comes_after_epoch_gamma_counted_from_one(gamma):
    for epoch in range(2 * gamma):
        published = epoch + 1
        assert has_second_teacher(epoch, gamma) == (published > gamma)


@pytest.mark.parametrize("temperatures", [(), (0.0,), (1.0, -2.0), (math.inf,), (math.nan,)])
def test_temperatures_that_cannot_be_meant_are_refused(temperatures):
    with pytest.raises(UsageError, match="temperatures must be one or more above 0, not"):
        SLD(ce=0.1, kd=0.9, temperatures=temperatures)
