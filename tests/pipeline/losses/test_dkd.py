"""DKD against its plain definition in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitbank.pipeline.losses import DatasetKind, published_loss
from logitbank.pipeline.losses.dkd import (
    DKD,
    non_target_class_loss,
    target_class_loss,
    warmup_share,
)
from logitbank.pipeline.losses.kd import kd_loss
from logitbank.stores.errors import UsageError
from tests.pipeline.losses.loss_examples import EXTREMES, batches, extreme, random_batch
from tests.reference import corrections
from tests.reference import losses as reference

TEMPERATURES = st.sampled_from([0.5, 1.0, 4.0])
BOTH = pytest.mark.parametrize("loss", [target_class_loss, non_target_class_loss])
DEFINITIONS = {target_class_loss: reference.tckd, non_target_class_loss: reference.nckd}


def computed(loss, student, teacher, labels, temperature):
    return loss(*map(torch.tensor, (student, teacher, labels)), temperature).item()


@BOTH
@given(batch=batches(2, min_classes=1), temperature=TEMPERATURES)
def test_each_term_is_its_definition(loss, batch, temperature):
    (student, teacher), labels = batch
    expected = DEFINITIONS[loss](student, teacher, labels, temperature)
    found = computed(loss, student, teacher, labels, temperature)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", EXTREMES)
def test_each_term_of_extreme_logits_is_its_definition_and_finite(loss, name, dtype):
    student, teacher, labels = extreme(name, dtype)
    found = loss(student, teacher, labels, 4.0)
    found.backward()
    expected = DEFINITIONS[loss](student.detach().numpy(), teacher.numpy(), labels.numpy(), 4.0)
    assert found.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert torch.isfinite(student.grad).all()


@BOTH
def test_each_term_passes_gradcheck(loss):
    student, teacher, labels = random_batch(2)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, labels, 3.0), student)


@BOTH
def test_each_term_teaches_only_the_student(loss):
    student, teacher, labels = random_batch(2)
    student.requires_grad_()
    teacher.requires_grad_()
    loss(student, teacher, labels, 1.0).backward()
    assert teacher.grad is None
    assert student.grad is not None


@BOTH
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_each_term_of_half_precision_is_computed_in_float32(loss, half):
    student, teacher, labels = random_batch(2)
    student, teacher = student.to(half), teacher.to(half)
    found = loss(student, teacher, labels, 4.0)
    assert found == loss(student.float(), teacher.float(), labels, 4.0)
    assert found.dtype == torch.float32


def test_terms_worked_by_hand():
    # Teacher (1/2, 1/4, 1/4), student (1/3, 1/3, 1/3), label 0: the target's part is (1/2, 1/2)
    # against (1/3, 2/3), the others' (1/2, 1/2) against the same.
    teacher = torch.tensor([[math.log(2), 0.0, 0.0]])
    student = torch.zeros(1, 3)
    labels = torch.tensor([0])
    target = 0.5 * math.log(0.5 * 3) + 0.5 * math.log(0.5 * 1.5)
    assert target_class_loss(student, teacher, labels, 1.0).item() == pytest.approx(target)
    assert non_target_class_loss(student, teacher, labels, 1.0).item() == pytest.approx(0, abs=1e-7)
    # With label 1 the others are (2/3, 1/3) against (1/2, 1/2).
    labels = torch.tensor([1])
    others = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert non_target_class_loss(student, teacher, labels, 1.0).item() == pytest.approx(others)
    # Both twice as large at twice the temperature, times its square.
    doubled = non_target_class_loss(student, 2 * teacher, labels, 2.0).item()
    assert doubled == pytest.approx(4 * others)


@given(batches(2), TEMPERATURES)
def test_kd_is_the_target_term_and_the_others_weighted_by_what_the_teacher_leaves_them(
    batch, temperature
):
    (student, teacher), labels = batch
    total = 0.0
    for row in range(len(labels)):
        one = slice(row, row + 1)
        left = 1 - reference.softmax(teacher[row] / temperature)[labels[row]]
        rows = student[one], teacher[one], labels[one]
        total += computed(target_class_loss, *rows, temperature)
        total += left * computed(non_target_class_loss, *rows, temperature)
    found = kd_loss(torch.tensor(student), torch.tensor(teacher), temperature).item()
    assert found == pytest.approx(total / len(labels), rel=1e-9, abs=1e-9)


@given(batches(2, distinct=True))
def test_sort_and_swap_give_the_same_target_term(batch):
    (student, teacher), labels = batch
    orders = [corrections.true_order(row, y) for row, y in zip(teacher, labels, strict=True)]
    rows = list(zip(teacher, orders, labels, strict=True))
    by_sort, by_swap = (
        computed(target_class_loss, student, [correct(*row) for row in rows], labels, 4.0)
        for correct in (corrections.sort, corrections.swap)
    )
    assert by_sort == pytest.approx(by_swap, rel=1e-12, abs=1e-12)


def test_a_probability_that_rounds_to_zero_is_no_infinity():
    # The softmax of float32 gives the student's other classes exactly 0.
    student, teacher = torch.tensor([[200.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    assert torch.softmax(student, 1)[0, 1] == 0
    found = target_class_loss(student, teacher, torch.tensor([0]), 1.0).item()
    assert found == pytest.approx(0.5 * math.log(0.5) + 0.5 * (math.log(0.5) + 200))


def test_the_warmup_counts_epochs_from_one():
    shares = [warmup_share(epoch, 20) for epoch in range(25)]
    np.testing.assert_allclose(shares, [min(published / 20, 1) for published in range(1, 26)])
    assert warmup_share(0, 1) == 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [("beta", -1.0), ("alpha", math.nan), ("ce", math.inf), ("temperature", 0.0), ("warmup", 0)],
)
def test_settings_that_cannot_be_meant_are_refused(setting, value):
    settings = {"ce": 1.0, "alpha": 1.0, "beta": 8.0, "temperature": 4.0, "warmup": 20}
    assert DKD(**settings) == published_loss("dkd", DatasetKind.CIFAR)
    with pytest.raises(UsageError, match=f"{setting} must be .*, not {value}"):
        DKD(**{**settings, setting: value})
