"""The CIFAR ResNets: sizes, names and initialisation of the published ones."""

from __future__ import annotations

import math

import pytest
import torch

from logitbank.pipeline.models.zoo.cifar_resnet import CIFAR_RESNETS, cifar_resnet


def count(name: str) -> int:
    return sum(each.numel() for each in cifar_resnet(name, 100).parameters())


def expected_names(name: str) -> set[str]:
    """The names of a checkpoint, spelled out."""
    depth, (stem, *stages) = CIFAR_RESNETS[name]
    statistics = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {"conv1.weight", "fc.weight", "fc.bias"} | {f"bn1.{each}" for each in statistics}
    inputs = stem
    for stage, width in enumerate(stages, start=1):
        for block in range((depth - 2) // 6):
            prefix = f"layer{stage}.{block}"
            for number in (1, 2):
                names.add(f"{prefix}.conv{number}.weight")
                names |= {f"{prefix}.bn{number}.{each}" for each in statistics}
        if stage > 1 or inputs != width:
            names.add(f"layer{stage}.0.downsample.0.weight")
            names |= {f"layer{stage}.0.downsample.1.{each}" for each in statistics}
        inputs = width
    return names


def test_resnet14_and_44_lie_one_and_two_steps_of_depth_further():
    # Six more layers are three more blocks, one a stage: 44 and 14 follow from published depths.
    step = count("resnet32") - count("resnet20")
    assert count("resnet44") - count("resnet32") == step
    assert count("resnet20") - count("resnet14") == step / 2


@pytest.mark.parametrize("name", CIFAR_RESNETS)
def test_state_dict_names(name):
    assert set(cifar_resnet(name, 100).state_dict()) == expected_names(name)


@pytest.mark.parametrize(("name", "keys"), [("resnet32x4", 206), ("resnet8x4", 62)])
def test_state_dict_sizes(name, keys):
    assert len(cifar_resnet(name, 100).state_dict()) == keys


def test_forward_gives_one_row_of_logits_an_image():
    model = cifar_resnet("resnet8x4", 7).eval()
    with torch.no_grad():
        assert model(torch.randn(3, 3, 32, 32)).shape == (3, 7)


def test_forward_is_the_published_network_written_out():
    """One block a stage, in the operations of the paper's figure 2 and table 6."""
    model = cifar_resnet("resnet8", 5).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    state, x = model.state_dict(), torch.randn(2, 3, 32, 32)

    def conv(x, name, stride, padding):
        return torch.conv2d(x, state[f"{name}.weight"], stride=stride, padding=padding)

    def norm(x, name):
        mean, var, weight, bias = (
            state[f"{name}.{each}"].view(-1, 1, 1)
            for each in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    with torch.no_grad():
        y = norm(conv(x, "conv1", 1, 1), "bn1").clamp(min=0)
        for stage, stride in ((1, 1), (2, 2), (3, 2)):
            block = f"layer{stage}.0"
            out = norm(conv(y, f"{block}.conv1", stride, 1), f"{block}.bn1").clamp(min=0)
            out = norm(conv(out, f"{block}.conv2", 1, 1), f"{block}.bn2")
            if stage > 1:
                y = norm(conv(y, f"{block}.downsample.0", stride, 0), f"{block}.downsample.1")
            y = (out + y).clamp(min=0)
        expected = y.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


def test_convolutions_start_as_he_et_al_have_it():
    torch.manual_seed(0)
    for name, weight in cifar_resnet("resnet32x4", 100).state_dict().items():
        if weight.dim() == 4 and weight.numel() > 10_000:
            fan_out = weight.shape[0] * weight.shape[2] * weight.shape[3]
            assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05), name


def test_the_same_seed_gives_the_same_network():
    def fresh() -> torch.Tensor:
        torch.manual_seed(3)
        return cifar_resnet("resnet8", 10).fc.weight

    assert torch.equal(fresh(), fresh())
