"""Standardised and swapped logits: the two maps of rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitbank.pipeline.losses.standardise import standardise
from logitbank.pipeline.losses.swap import swap_logits
from tests.pipeline.losses.loss_examples import EXTREMES, batches, extreme, random_batch
from tests.reference import corrections
from tests.reference import losses as reference


@given(batches(1, largest=1e4, min_classes=1))
def test_standardised_rows_are_their_definition(batch):
    (logits,), _ = batch
    expected = [reference.standardise(row) for row in logits]
    np.testing.assert_allclose(standardise(torch.tensor(logits)), expected, rtol=1e-6, atol=1e-6)


@given(batches(1, distinct=True), st.floats(0.1, 50), st.floats(-50, 50))
def test_standardised_rows_forget_scale_and_offset(batch, scale, offset):
    (logits,), _ = batch
    rows = torch.tensor(logits)
    found = standardise(rows)
    torch.testing.assert_close(standardise(scale * rows + offset), found, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.mean(dim=1), torch.zeros(len(rows)).double())
    torch.testing.assert_close(found.std(dim=1), torch.ones(len(rows)).double(), rtol=0, atol=1e-6)


def test_standardised_by_hand_with_the_unbiased_deviation():
    # Mean 2, deviations -1, 0, 1: the unbiased variance is 2 / 2, the biased one 2 / 3.
    found = standardise(torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([[-1.0, 0.0, 1.0]]).double() / (1 + 1e-7))


@pytest.mark.parametrize("correct", [corrections.sort, corrections.swap])
@given(batch=batches(1, distinct=True), temperature=st.sampled_from([0.5, 2.0, 4.0]))
def test_corrections_commute_with_standardisation_and_temperature(correct, batch, temperature):
    (logits,), labels = batch

    def corrected(rows):
        pairs = zip(rows, labels, strict=True)
        return np.array([correct(row, corrections.true_order(row, y), y) for row, y in pairs])

    def prepared(rows):
        return (standardise(torch.tensor(rows)) / temperature).numpy()

    np.testing.assert_allclose(prepared(corrected(logits)), corrected(prepared(logits)), rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", EXTREMES)
def test_standardised_extremes_and_their_gradients_are_finite(name, dtype):
    logits, _, _ = extreme(name, dtype)
    found = standardise(logits)
    found.square().sum().backward()
    assert torch.isfinite(found).all()
    assert torch.isfinite(logits.grad).all()
    if name in ("one class", "all equal"):
        assert (found == 0).all()


@given(st.floats(-1e4, 1e4, width=32), st.integers(1, 200))
def test_equal_logits_are_zero_even_where_their_mean_is_off_by_a_rounding(value, classes):
    rows = torch.full((1, classes), value, dtype=torch.float32)
    assert (standardise(rows) == 0).all()


def test_standardise_passes_gradcheck():
    (logits, _) = random_batch(1)
    assert torch.autograd.gradcheck(standardise, logits.requires_grad_())


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_standardised_in_float32(half):
    logits = random_batch(1)[0].to(half)
    assert torch.equal(standardise(logits), standardise(logits.float()))


@given(batches(1, largest=3, min_classes=1))
def test_swapped_rows_are_their_definition(batch):
    (logits,), labels = batch
    expected = [reference.swap(row, y) for row, y in zip(logits, labels, strict=True)]
    found = swap_logits(torch.tensor(logits), torch.tensor(labels))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(swap_logits(found, torch.tensor(labels)), expected)


@pytest.mark.parametrize(
    ("logits", "label", "expected"),
    [
        ([5.0, 4, 3, 2, 1], 3, [2.0, 4, 3, 5, 1]),
        ([3.0, 3, 1, 0], 2, [1.0, 3, 3, 0]),
        ([3.0, 3, 1, 0], 1, [3.0, 3, 1, 0]),
        ([0.0391, 0.0607, 0.041, 0.050, 0.0526], 0, [0.0607, 0.0391, 0.041, 0.050, 0.0526]),
    ],
)
def test_swap_worked_by_hand(logits, label, expected):
    found = swap_logits(torch.tensor([logits]), torch.tensor([label]))
    assert torch.equal(found, torch.tensor([expected]))


def test_swap_passes_gradcheck_and_sends_gradients_to_where_values_came_from():
    logits, labels = random_batch(1)
    assert torch.autograd.gradcheck(lambda z: swap_logits(z, labels), logits.requires_grad_())
    row = torch.tensor([[5.0, 4.0, 3.0]], requires_grad=True)
    (swap_logits(row, torch.tensor([2])) * torch.tensor([[1.0, 10.0, 100.0]])).sum().backward()
    assert row.grad.tolist() == [[100.0, 10.0, 1.0]]


def test_swap_leaves_a_label_that_ties_for_the_maximum_its_gradient():
    row = torch.tensor([[5.0, 5.0]], requires_grad=True)
    (swap_logits(row, torch.tensor([1])) * torch.tensor([[1.0, 10.0]])).sum().backward()
    assert row.grad.tolist() == [[1.0, 10.0]]


def test_swap_keeps_half_precision():
    logits = torch.tensor([[1.0, 2.0]], dtype=torch.float16)
    found = swap_logits(logits, torch.tensor([0]))
    assert found.dtype == torch.float16
    assert found.tolist() == [[2.0, 1.0]]
