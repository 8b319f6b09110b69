"""MLKD as released, against its plain definition in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from logitbank.pipeline.losses.kd import kd_loss
from logitbank.pipeline.losses.mlkd import (
    batch_correlation_loss,
    class_correlation_loss,
    confidence_fractions,
    mlkd_losses,
)
from tests.pipeline.losses.loss_examples import EXTREMES, batches, extreme, random_batch
from tests.reference import losses as reference


def is_clear_cut(teacher: np.ndarray) -> bool:
    """Say whether no rounding decides which confidences are at most the median.

    Those that are nearly equal must be of equal logits, so that they are equal however summed.
    """
    p = np.array([reference.softmax(row) for row in teacher])
    for confidences, sources in ((p.max(axis=1), teacher), (p.sum(axis=0), teacher.T)):
        for one, other in itertools.combinations(range(len(sources)), 2):
            are_near = abs(confidences[one] - confidences[other]) < 1e-9
            if are_near and not np.array_equal(sources[one], sources[other]):
                return False
    return True


def levels(*logits, base=4.0, **options):
    return tuple(mlkd_losses(*logits, base, **options))


@pytest.mark.parametrize("standardised", [False, True])
@given(batch=batches(4), base=st.sampled_from([1.0, 2.0, 4.0]))
def test_each_level_is_its_definition(standardised, batch, base):
    (student_weak, student_strong, teacher_weak, teacher_strong), _ = batch
    assume(is_clear_cut(teacher_weak))
    expected = reference.mlkd(
        (student_weak, student_strong),
        (teacher_weak, teacher_strong),
        base,
        standardised=standardised,
    )
    tensors = map(torch.tensor, (student_weak, student_strong, teacher_weak, teacher_strong))
    found = levels(*tensors, base=base, standardised=standardised)
    assert [value.item() for value in found] == pytest.approx(expected, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("standardised", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", EXTREMES)
def test_each_level_of_extreme_logits_is_finite(name, dtype, standardised):
    student, teacher, _ = extreme(name, dtype)
    losses = levels(student, student.flip(0), teacher, teacher.flip(0), standardised=standardised)
    sum(losses).backward()
    assert all(torch.isfinite(loss) for loss in losses)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("standardised", [False, True])
def test_the_levels_pass_gradcheck(standardised):
    weak, strong, teacher_weak, teacher_strong, _ = random_batch(4)

    def losses(weak, strong):
        return levels(weak, strong, teacher_weak, teacher_strong, standardised=standardised)

    assert torch.autograd.gradcheck(losses, (weak.requires_grad_(), strong.requires_grad_()))


def test_no_gradient_flows_into_the_teacher():
    logits = [each.requires_grad_() for each in random_batch(4)[:4]]
    sum(levels(*logits)).backward()
    assert [each.grad is None for each in logits] == [False, False, True, True]


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(half):
    logits = [each.to(half) for each in random_batch(4)[:4]]
    assert levels(*logits) == levels(*(each.float() for each in logits))


@pytest.mark.parametrize(
    ("weak", "strong", "squares"),
    [(1e4, 0, 4**2 + 2**2 + 3**2 + 5**2 + 6**2 + 2**2 + 6**2), (0, 1e4, 4**2 + 3**2 + 5**2)],
)
def test_instances_worked_by_hand(weak, strong, squares):
    """A student that knows nothing of two classes is ln 2 from a teacher who is sure of one.

    At T = 2 and 6 the weak view counts twice, the strong one not at all.
    """
    unsure = torch.zeros(1, 2, dtype=torch.float64)
    taught = [torch.tensor([[logit, 0.0]], dtype=torch.float64) for logit in (weak, strong)]
    found = mlkd_losses(unsure, unsure, *taught, 4, standardised=False).kl.item()
    assert found == pytest.approx(squares * math.log(2), rel=1e-12)


def test_correlations_worked_by_hand():
    # Rows (1, 0) and (0, 1) against (1/2, 1/2) twice: PᵀP = I against 1/2 everywhere, and so PPᵀ.
    teacher = torch.eye(2)
    student = torch.full((2, 2), 0.5)
    assert class_correlation_loss(student, teacher).item() == pytest.approx(4 * 0.25 / 2)
    assert batch_correlation_loss(student, teacher).item() == pytest.approx(4 * 0.25 / 2)
    # One row (1, 0) against (1/2, 1/2): entries 1, 0, 0, 0 against 1/4, and 1 against 1/2.
    found = class_correlation_loss(student[:1], teacher[:1]).item()
    assert found == pytest.approx((0.75**2 + 3 * 0.25**2) / 2)
    found = batch_correlation_loss(student[:1], teacher[:1]).item()
    assert found == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("confidences", "fraction"),
    [
        ((0.6, 0.7, 0.8, 0.9), 2 / 4),
        ((0.9, 0.6, 0.8), 2 / 3),
        ((0.6, 0.6, 0.6, 0.9), 3 / 4),
        ((0.7, 0.7), 1.0),
        ((0.9,), 1.0),
        ((0.6, 0.8, 0.8, 0.9), 3 / 4),
    ],
)
def test_the_mask_comes_to_the_fraction_of_images_at_or_below_the_median(confidences, fraction):
    logits = torch.tensor([[math.log(p / (1 - p)), 0.0] for p in confidences]).double()
    images, _ = confidence_fractions(logits)
    assert images.item() == pytest.approx(fraction)


def test_the_fraction_of_classes_is_that_of_the_sums_over_the_batch():
    # Sums of probabilities: 1.1, 0.6, 0.3: two of three are at or below the median.
    logits = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.4, 0.2]]).double().log()
    _, classes = confidence_fractions(logits)
    assert classes.item() == pytest.approx(2 / 3)


@given(batches(1))
def test_at_least_half_of_the_images_and_classes_count(batch):
    (teacher,), _ = batch
    assume(is_clear_cut(teacher))
    found = [share.item() for share in confidence_fractions(torch.tensor(teacher))]
    assert found == pytest.approx(reference.fractions(teacher))
    assert all(0.5 <= share <= 1 for share in found)


def test_masks_scale_the_mean_and_choose_no_image():
    # All four images count for the weak KL, half as much each: as if none were masked, times 1/2.
    weak, _, teacher, _, _ = random_batch(4)
    found, _, _ = levels(weak, weak, teacher, weak)
    m, _ = confidence_fractions(teacher)
    every = sum(kd_loss(weak, teacher, t) for t in (4.0, 3.0, 5.0, 2.0, 6.0))
    again = sum(kd_loss(weak, teacher, t) for t in (2.0, 6.0))
    strong = sum(kd_loss(weak, weak, t) for t in (4.0, 3.0, 5.0))
    torch.testing.assert_close(found, m * every + again + strong)
    assert m == 0.5


def test_the_strong_view_is_taught_at_the_base_temperature_3_and_5_alone():
    weak, strong, teacher_weak, teacher_strong, _ = random_batch(4)
    with_it, cc, bc = levels(weak, strong, teacher_weak, teacher_strong)
    without, same_cc, same_bc = levels(weak, teacher_strong, teacher_weak, teacher_strong)
    expected = sum(kd_loss(strong, teacher_strong, t) for t in (4.0, 3.0, 5.0))
    torch.testing.assert_close(with_it - without, expected)
    assert (cc, bc) == (same_cc, same_bc)


def test_a_base_temperature_of_2_counts_beside_the_fixed_one():
    weak, _, teacher, _, _ = random_batch(4)
    found, _, _ = levels(weak, weak, teacher, teacher, base=2.0)
    m, _ = confidence_fractions(teacher)
    by_temperature = {t: kd_loss(weak, teacher, t) for t in (2.0, 3.0, 5.0, 6.0)}
    every = sum(by_temperature.values()) + by_temperature[2.0]
    strong = by_temperature[2.0] + by_temperature[3.0] + by_temperature[5.0]
    torch.testing.assert_close(
        found, m * every + strong + by_temperature[2.0] + by_temperature[6.0]
    )


@given(batches(4))
def test_a_student_that_agrees_costs_nothing(batch):
    (_, _, weak, strong), _ = batch
    weak, strong = torch.tensor(weak), torch.tensor(strong)
    assert [loss.item() for loss in levels(weak, strong, weak, strong)] == pytest.approx(
        [0, 0, 0], abs=1e-9
    )
