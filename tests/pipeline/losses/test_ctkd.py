"""CTKD's temperature: its value, its schedule, and the gradient that reaches it."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitbank.pipeline.losses import DatasetKind, published_loss
from logitbank.pipeline.losses.ctkd import (
    CTKD,
    LearnedTemperature,
    reversal,
    scale_gradient,
)
from logitbank.pipeline.losses.kd import kd_loss
from logitbank.stores.errors import UsageError
from tests.pipeline.losses.loss_examples import EXTREMES, extreme, random_batch
from tests.reference import losses as reference

CIFAR_CTKD = published_loss("ctkd", DatasetKind.CIFAR)


def temperature_at(theta: float, loss: CTKD = CIFAR_CTKD) -> LearnedTemperature:
    learned = LearnedTemperature(loss).double()
    torch.nn.init.constant_(learned.theta, theta)
    return learned


def test_theta_starts_at_one():
    learned = LearnedTemperature(CIFAR_CTKD)
    assert learned.theta.item() == 1
    assert learned(0).item() == pytest.approx(1 + 20 / (1 + math.exp(-1)))
    assert [name for name, _ in learned.named_parameters()] == ["theta"]


@given(st.floats(-20, 20))
def test_the_temperature_is_its_definition(theta):
    found = temperature_at(theta)(3).item()
    assert found == pytest.approx(reference.ctkd_temperature(theta), rel=1e-12)


def test_a_loss_worked_by_hand():
    """θ = 0 makes T = 11, where the teacher gives 3/4 and 1/4; KL = 3/4 ln(3/2) + 1/4 ln(1/2)."""
    student = torch.zeros(1, 2, dtype=torch.float64)
    teacher = torch.tensor([[11 * math.log(3), 0.0]], dtype=torch.float64)
    found = kd_loss(student, teacher, temperature_at(0)(0)).item()
    assert found == pytest.approx(121 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)), rel=1e-12)


@pytest.mark.parametrize("theta", [-1e4, 1e4])
def test_the_temperature_stays_between_its_ends(theta):
    learned = temperature_at(theta)
    assert learned(0).item() in (1, 21)
    kd_loss(torch.randn(2, 3), torch.randn(2, 3), learned(0).float()).backward()
    assert math.isfinite(learned.theta.grad)


@pytest.mark.parametrize("loops", [5, 10])
def test_the_reversal_counts_epochs_from_one_and_stays_full_after_the_last(loops):
    for epoch in range(3 * loops):
        published = min(epoch + 1, loops)
        expected = (math.cos(published * math.pi / loops) - 1) / 2
        assert reversal(epoch, loops) == pytest.approx(expected)
    assert reversal(loops - 2, loops) > -1
    assert reversal(loops - 1, loops) == -1 == reversal(100 * loops, loops)
    assert -0.1 < reversal(0, loops) < 0


@given(st.floats(-5, 5), st.integers(0, 15))
def test_theta_is_given_the_reversed_gradient_of_the_loss(theta, epoch):
    student, teacher, _ = random_batch(2)
    learned = temperature_at(theta)
    kd_loss(student, teacher, learned(epoch)).backward()

    def loss(at: float) -> float:
        return reference.kd(student.numpy(), teacher.numpy(), reference.ctkd_temperature(at))

    slope = (loss(theta + 1e-5) - loss(theta - 1e-5)) / 2e-5
    assert learned.theta.grad.item() == pytest.approx(reversal(epoch, 10) * slope, 1e-5, 1e-8)


def test_the_gradient_flows_through_the_square_of_the_temperature_as_well():
    student, teacher, _ = random_batch(2)
    at = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    kd_loss(student, teacher, at).backward()
    without = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    (9 * kd_loss(student, teacher, without) / without**2).backward()
    kl = kd_loss(student, teacher, 3.0) / 9
    torch.testing.assert_close(at.grad, without.grad + 2 * 3 * kl)


def test_kd_at_a_learned_temperature_passes_gradcheck():
    student, teacher, _ = random_batch(2)
    at = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s, t: kd_loss(s, teacher, t), (student, at))


@pytest.mark.parametrize("name", EXTREMES)
def test_the_gradient_of_theta_is_finite_on_extreme_logits(name):
    student, teacher, _ = extreme(name, torch.float32)
    learned = LearnedTemperature(CIFAR_CTKD)
    loss = kd_loss(student, teacher, learned(9))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()
    assert torch.isfinite(learned.theta.grad)


@given(st.floats(-3, 3))
def test_a_scaled_gradient_leaves_values_alone(factor):
    values = torch.randn(3, requires_grad=True)
    found = scale_gradient(values, factor)
    assert torch.equal(found, values)
    found.sum().backward()
    torch.testing.assert_close(values.grad, torch.full((3,), factor))


def test_ascent_makes_the_loss_larger():
    student, teacher, _ = random_batch(2)
    learned = temperature_at(1.0)
    optimiser = torch.optim.SGD(learned.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        loss = kd_loss(student, teacher, learned(20))
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses == sorted(losses)
    assert losses[0] < losses[-1]


def test_its_state_is_restored_by_a_checkpoint():
    learned = temperature_at(2.5)
    again = LearnedTemperature(CIFAR_CTKD).double()
    again.load_state_dict(learned.state_dict())
    assert torch.equal(again(4), learned(4))


@pytest.mark.parametrize(
    ("setting", "value"), [("kd", -1.0), ("loops", 0), ("start", 0.0), ("span", math.nan)]
)
def test_settings_that_cannot_be_meant_are_refused(setting, value):
    with pytest.raises(UsageError, match=f"{setting} must be .*, not {value}"):
        CTKD(**{"ce": 0.1, "kd": 0.9, "loops": 10, setting: value})
