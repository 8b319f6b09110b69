"""The CIFAR networks by name: sizes, shapes, first weights, one step, and published checkpoints."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from logitbank.pipeline.models.digest import state_sha256
from logitbank.pipeline.models.loading import load_model
from logitbank.pipeline.models.zoo.cifar import CIFAR_NETWORKS, cifar_network
from logitbank.pipeline.models.zoo.cifar_shufflenet import channel_shuffle
from logitbank.pipeline.models.zoo.imagenet_mobilenet import imagenet_network
from logitbank.stores.errors import LogitbankError, UsageError

PARAMETERS = {  # at 100 classes, as published
    "resnet8": 83_892,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet8x4": 1_233_540,
    "resnet32x4": 7_433_860,
    "wrn_16_1": 180_916,
    "wrn_16_2": 703_284,
    "wrn_40_1": 569_780,
    "wrn_40_2": 2_255_156,
    "vgg8": 3_965_028,
    "vgg13": 9_462_180,
    "MobileNetV2": 812_836,
    "ShuffleV1": 949_258,
    "ShuffleV2": 1_355_528,
    "ResNet50": 23_705_252,
}

ONE_A_FAMILY = ("resnet8", "wrn_16_1", "vgg8", "MobileNetV2", "ShuffleV1", "ShuffleV2", "ResNet50")


def parameters(model: nn.Module) -> int:
    return sum(each.numel() for each in model.parameters())


@pytest.mark.parametrize(("name", "published"), PARAMETERS.items())
def test_parameter_counts(name, published):
    assert parameters(cifar_network(name, 100)) == published


@pytest.mark.parametrize(
    ("name", "like", "more"),
    [
        # A convolution of n → n channels with its normalisation has 9n² + n + 2n parameters.
        ("vgg11", "vgg8", {256: 1, 512: 2}),
        ("vgg16", "vgg13", {256: 1, 512: 2}),
        ("vgg19", "vgg13", {256: 2, 512: 4}),
    ],
)
def test_other_vggs_are_published_ones_and_some_convolutions_more(name, like, more):
    added = sum(times * (9 * width**2 + 3 * width) for width, times in more.items())
    assert parameters(cifar_network(name, 100)) == PARAMETERS[like] + added


def test_the_registry_holds_the_networks_of_both_papers():
    assert set(CIFAR_NETWORKS) == {
        *PARAMETERS,
        *("resnet14", "resnet44"),
        *("vgg11", "vgg16", "vgg19"),
    }


@pytest.mark.parametrize("name", CIFAR_NETWORKS)
def test_forward_gives_one_row_of_logits_an_image(name):
    model = cifar_network(name, 7).eval()
    with torch.inference_mode():
        assert model(torch.randn(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("side", [16, 33, 64])
@pytest.mark.parametrize("name", ONE_A_FAMILY)
def test_images_of_other_sizes_are_taken(name, side):
    model = load_model(f"cifar:{name}", classes=7, input_size=side)
    assert model.input_size == side
    with torch.inference_mode():
        assert model.module.eval()(torch.zeros(2, 3, side, side)).shape == (2, 7)


def test_images_too_small_to_be_halved_are_an_error():
    with pytest.raises(LogitbankError, match=r"vgg8 can't take images of 7 × 7: .* at least 8"):
        load_model("cifar:vgg8", classes=7, input_size=7)
    assert load_model("cifar:vgg8", classes=7, input_size=8).input_size == 8


@pytest.mark.parametrize("name", ONE_A_FAMILY)
def test_a_row_does_not_depend_on_its_neighbours(name):
    torch.manual_seed(0)
    model, x = cifar_network(name, 7).double().eval(), torch.randn(4, 3, 32, 32).double()
    with torch.inference_mode():
        together = model(x)
        alone = torch.cat([model(row[None]) for row in x])
        among_others = model(torch.cat([x[2:3], 100 * torch.ones_like(x[:3])]))[0]
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(together[2], among_others, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [*ONE_A_FAMILY, "MobileNetV1"])
def test_one_step_reaches_every_parameter_and_lowers_the_loss(name):
    torch.manual_seed(0)
    build = imagenet_network if name == "MobileNetV1" else cifar_network
    model = build(name, 7).train()
    x, y = torch.randn(8, 3, 32, 32), torch.arange(8) % 7
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    gradients = {key: value.grad for key, value in model.named_parameters()}
    assert all(each.isfinite().all() and each.any() for each in gradients.values())
    # Far along the gradient a step may overshoot; close by, the loss must fall.
    size = sum(each.square().sum() for each in gradients.values()).sqrt()
    with torch.no_grad():
        for key, value in model.named_parameters():
            value -= 0.02 * gradients[key] / size
        assert nn.functional.cross_entropy(model(x), y) < loss


def standard_deviations(model: nn.Module, kind: type[nn.Module]) -> list[tuple[nn.Module, float]]:
    """Of each layer with weights enough to tell."""
    layers = [each for each in model.modules() if isinstance(each, kind)]
    return [(each, each.weight.std().item()) for each in layers if each.weight.numel() > 10_000]


@pytest.mark.parametrize("name", ["wrn_40_2", "vgg8", "MobileNetV2", "ResNet50"])
def test_convolutions_start_as_he_et_al_have_it(name):
    torch.manual_seed(0)
    model = cifar_network(name, 100)
    for layer, deviation in standard_deviations(model, nn.Conv2d):
        height, width = layer.kernel_size
        expected = math.sqrt(2 / (layer.out_channels * height * width))
        assert deviation == pytest.approx(expected, rel=0.05)
        assert layer.bias is None or not layer.bias.any()


@pytest.mark.parametrize("name", ["ShuffleV1", "ShuffleV2", "MobileNetV1"])
def test_the_others_start_as_torch_has_it(name):
    torch.manual_seed(0)
    model = imagenet_network(name, 9) if name == "MobileNetV1" else cifar_network(name, 100)
    for layer, deviation in standard_deviations(model, nn.Conv2d):
        fan_in = layer.weight[0].numel()  # of U(-1 / √fan_in, 1 / √fan_in)
        assert deviation == pytest.approx(1 / math.sqrt(3 * fan_in), rel=0.05)


@pytest.mark.parametrize("name", ["vgg8", "MobileNetV2"])
def test_the_last_layer_of_vgg_and_mobilenet_starts_small(name):
    torch.manual_seed(0)
    model = cifar_network(name, 100)
    (last, deviation) = standard_deviations(model, nn.Linear)[-1]
    assert deviation == pytest.approx(0.01, rel=0.05)
    assert not last.bias.any()


def test_the_last_bias_of_a_wide_resnet_starts_at_zero():
    assert not cifar_network("wrn_16_2", 100).fc.bias.any()


def test_the_same_seed_gives_the_same_network():
    def fresh(name: str) -> str:
        torch.manual_seed(3)
        return state_sha256(cifar_network(name, 10))

    for name in ("wrn_16_1", "MobileNetV2", "ShuffleV1"):
        assert fresh(name) == fresh(name)


@pytest.mark.parametrize("name", ONE_A_FAMILY)
def test_a_checkpoint_in_mdistillers_layout_loads_as_it_is(name, tmp_path):
    source = cifar_network(name, 100)
    torch.save({"model": source.state_dict(), "epoch": 240}, tmp_path / "ckpt_epoch_240.pth")
    spec = f"cifar:{name}@{tmp_path / 'ckpt_epoch_240.pth'}"
    teacher = load_model(spec, classes=100, pretrained=True)
    assert state_sha256(teacher.module) == state_sha256(source)
    with pytest.raises(LogitbankError, match="has 100 classes, expected 10"):
        load_model(spec, classes=10, pretrained=True)


def test_channels_are_dealt_from_each_group_in_turn():
    x = torch.arange(12).view(1, 12, 1, 1)
    assert channel_shuffle(x, 3).flatten().tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert torch.equal(channel_shuffle(x, 1), x)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("resnet8x5", "resnet8x4"),
        ("wrn_40_4", "wrn_40_"),
        ("wrn40_2", "wrn_40_2"),
        ("vgg13_bn", "vgg13"),
        ("resnet50", "ResNet50"),
        ("mobilenetv2", "MobileNetV2"),
        ("ShuffleNetV2", "ShuffleV2"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(name, meant):
    with pytest.raises(UsageError, match=f"unknown CIFAR network '{name}': did you mean '{meant}"):
        cifar_network(name, 10)
