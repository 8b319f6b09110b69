"""The forward pass: a row does not depend on its neighbours, and nothing is left changed."""

from __future__ import annotations

import pytest
import torch

from logitbank.pipeline.inference import forward_logits
from logitbank.pipeline.models.loading import LoadedModel, load_model
from logitbank.pipeline.models.normalisation import CIFAR, normalise
from logitbank.stores.errors import LogitbankError


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    torch.manual_seed(0)
    return load_model("cifar:resnet8x4", classes=100, normalisation=CIFAR)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (150, 32, 32, 3), dtype=torch.uint8, generator=generator)


def logits(model, pixels, **options) -> torch.Tensor:
    return forward_logits(model, pixels, **{"batch_size": 64, "device": "cpu"} | options)


@pytest.fixture(scope="module")
def whole(model, pixels) -> torch.Tensor:
    return logits(model, pixels)


def test_logits_are_the_networks_on_normalised_pixels(model, pixels, whole):
    model.module.eval()
    with torch.no_grad():
        expected = model.module(normalise(pixels, CIFAR))
    model.module.train()
    assert whole.dtype == torch.float32
    assert whole.shape == (150, 100)
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 2, 17, 63, 64, 65])
def test_rows_of_a_partial_batch_are_bit_equal(model, pixels, whole, rows):
    assert torch.equal(logits(model, pixels[:rows]), whole[:rows])


def test_rows_are_bit_equal_in_any_order(model, pixels, whole):
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(2))
    assert torch.equal(logits(model, pixels[order]), whole[order])


def test_rows_are_bit_equal_from_any_start(model, pixels, whole):
    parts = [logits(model, pixels[start : start + 40]) for start in range(0, 150, 40)]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("rows", [1, 17])
def test_rows_of_a_partial_batch_are_bit_equal_in_channels_last(model, pixels, rows):
    full = logits(model, pixels[:64], channels_last=True)
    assert torch.equal(logits(model, pixels[:rows], channels_last=True), full[:rows])
    logits(model, pixels[:1])  # back to the usual format for the other tests


def test_no_rows_give_no_logits(model, pixels):
    assert logits(model, pixels[:0]).shape == (0, 100)


def test_the_network_is_left_in_its_mode_and_its_statistics_untouched(model, pixels):
    model.module.train()
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    logits(model, pixels[:3])
    assert model.module.training
    after = model.module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_logits_carry_no_gradient_and_the_callers_autocast_is_left_out(model, pixels, whole):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = logits(model, pixels)
    assert not found.requires_grad
    assert torch.equal(found, whole)


def test_mixed_precision_is_used_where_asked(model, pixels, whole):
    found = logits(model, pixels[:2], batch_size=2, amp=True)
    assert found.dtype == torch.float32
    assert not torch.allclose(found, whole[:2], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, whole[:2], rtol=0.1, atol=0.2)


@pytest.mark.parametrize("fails", [False, True])
def test_the_callers_precision_is_restored(model, pixels, monkeypatch, fails):
    seen = []

    def watch(images: torch.Tensor) -> torch.Tensor:
        cudnn = torch.backends.cudnn
        seen.append(
            (
                torch.get_float32_matmul_precision(),
                cudnn.allow_tf32,
                cudnn.benchmark,
                cudnn.deterministic,
            )
        )
        if fails:
            raise ValueError("out of memory")
        return torch.zeros(len(images), 100)

    monkeypatch.setattr(model.module, "forward", watch)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    torch.set_float32_matmul_precision("high")
    try:
        if fails:
            with pytest.raises(ValueError, match="out of memory"):
                logits(model, pixels[:1])
        else:
            logits(model, pixels[:1])
        assert seen == [("highest", False, False, True)]
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.benchmark
        assert not torch.backends.cudnn.deterministic
    finally:
        torch.set_float32_matmul_precision("highest")


def test_images_of_another_size_are_refused(model, pixels):
    with pytest.raises(LogitbankError, match="takes images of 32 × 32, not of 28 × 28"):
        logits(model, pixels[:, :28, :28])
