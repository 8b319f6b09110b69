"""Each released network, written out in plain operations on a state dict of its published names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from logitbank.pipeline.models.zoo.cifar import cifar_network
from logitbank.pipeline.models.zoo.imagenet_mobilenet import imagenet_network

CLASSES = 5


class Published:
    """A state dict by its published names; it remembers which of them were asked for."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.state = state
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> torch.Tensor:
        self.used.add(name)
        return self.state[name]

    def conv(self, x, name, stride=1, padding=0, groups=1, bias=False):
        bias = self[f"{name}.bias"] if bias else None
        return torch.conv2d(x, self[f"{name}.weight"], bias, stride, padding, groups=groups)

    def alone(self, x, name, stride):
        """A 3 × 3 convolution of each channel by itself."""
        return self.conv(x, name, stride, padding=1, groups=x.shape[1])

    def norm(self, x, name):
        mean, var, weight, bias = (
            self[f"{name}.{each}"].view(-1, 1, 1)
            for each in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    def head(self, x, name):
        """The mean over all places, then the linear layer."""
        return x.mean((2, 3)) @ self[f"{name}.weight"].T + self[f"{name}.bias"]


def relu(x):
    return x.clamp(min=0)


def halved(x):
    """The maximum of each 2 × 2 places."""
    return x.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))


def dealt(x, groups):
    """Channel shuffle by an explicit list: the first of each group, the second of each, …"""
    size = x.shape[1] // groups
    return x[:, [group * size + i for i in range(size) for group in range(groups)]]


def wide_resnet(net, x, depth, widening):
    x = net.conv(x, "conv1", padding=1)
    for stage in (1, 2, 3):
        for i in range((depth - 4) // 6):
            block = f"block{stage}.layer.{i}"
            stride = 2 if stage > 1 and i == 0 else 1
            active = relu(net.norm(x, f"{block}.bn1"))
            if i == 0 and (stage > 1 or widening > 1):
                x = net.conv(active, f"{block}.convShortcut", stride)
            out = relu(net.norm(net.conv(active, f"{block}.conv1", stride, 1), f"{block}.bn2"))
            x = x + net.conv(out, f"{block}.conv2", padding=1)
    return net.head(relu(net.norm(x, "bn1")), "fc")


def vgg(net, x, counts):
    fourth = x.shape[-1] == 64
    for block, count in enumerate(counts):
        for i in range(count):
            name = f"block{block}"
            x = net.conv(x, f"{name}.{3 * i}", padding=1, bias=True)
            x = relu(net.norm(x, f"{name}.{3 * i + 1}"))
        if block < 3 or (block == 3 and fourth):
            x = halved(x)
    return net.head(x, "classifier")


def mobilenet_v2(net, x):
    x = relu(net.norm(net.conv(x, "conv1.0", 2, 1), "conv1.1"))
    blocks = (1, 2, 3, 4, 3, 3, 1)
    strides = (1, 1, 2, 2, 1, 2, 1)
    for stage, (count, first) in enumerate(zip(blocks, strides, strict=True)):
        for i in range(count):
            conv = f"blocks.{stage}.{i}.conv"
            out = relu(net.norm(net.conv(x, f"{conv}.0"), f"{conv}.1"))
            out = net.alone(out, f"{conv}.3", first if i == 0 else 1)
            out = net.conv(relu(net.norm(out, f"{conv}.4")), f"{conv}.6")
            out = net.norm(out, f"{conv}.7")
            x = x + out if i > 0 else out
    x = relu(net.norm(net.conv(x, "conv2.0"), "conv2.1"))
    return net.head(x, "classifier.0")


def shufflenet_v1(net, x):
    x = relu(net.norm(net.conv(x, "conv1"), "bn1"))
    for stage, count in ((1, 4), (2, 8), (3, 4)):
        for i in range(count):
            block = f"layer{stage}.{i}"
            groups = 1 if (stage, i) == (1, 0) else 3
            out = relu(net.norm(net.conv(x, f"{block}.conv1", groups=groups), f"{block}.bn1"))
            out = net.alone(dealt(out, groups), f"{block}.conv2", 2 if i == 0 else 1)
            out = net.conv(relu(net.norm(out, f"{block}.bn2")), f"{block}.conv3", groups=3)
            out = net.norm(out, f"{block}.bn3")
            if i == 0:
                padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
                mean = padded.unfold(2, 3, 2).unfold(3, 3, 2).mean((4, 5))
                x = relu(torch.cat([out, mean], 1))
            else:
                x = relu(out + x)
    return net.head(x, "linear")


def shufflenet_v2(net, x):
    def unit(x, block, number, activate=True):
        out = net.norm(net.conv(x, f"{block}.conv{number}"), f"{block}.bn{number}")
        return relu(out) if activate else out

    def alone(x, block, number, stride):
        return net.norm(net.alone(x, f"{block}.conv{number}", stride), f"{block}.bn{number}")

    x = relu(net.norm(net.conv(x, "conv1"), "bn1"))
    for stage, count in ((1, 4), (2, 8), (3, 4)):
        for i in range(count):
            block = f"layer{stage}.{i}"
            if i == 0:
                left = unit(alone(x, block, 1, 2), block, 2)
                right = unit(alone(unit(x, block, 3), block, 4, 2), block, 5)
            else:
                left, right = x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]
                right = unit(alone(unit(right, block, 1), block, 2, 1), block, 3)
            x = dealt(torch.cat([left, right], 1), 2)
    return net.head(relu(net.norm(net.conv(x, "conv2"), "bn2")), "linear")


def resnet50(net, x):
    x = relu(net.norm(net.conv(x, "conv1", padding=1), "bn1"))
    for stage, count in ((1, 3), (2, 4), (3, 6), (4, 3)):
        for i in range(count):
            block = f"layer{stage}.{i}"
            stride = 2 if stage > 1 and i == 0 else 1
            out = relu(net.norm(net.conv(x, f"{block}.conv1"), f"{block}.bn1"))
            out = relu(net.norm(net.conv(out, f"{block}.conv2", stride, 1), f"{block}.bn2"))
            out = net.norm(net.conv(out, f"{block}.conv3"), f"{block}.bn3")
            if i == 0:
                x = net.conv(x, f"{block}.shortcut.0", stride)
                x = net.norm(x, f"{block}.shortcut.1")
            x = relu(out + x)
    return net.head(x, "linear")


def mobilenet_v1(net, x):
    x = relu(net.norm(net.conv(x, "model.0.0", 2, 1), "model.0.1"))
    for i in range(1, 14):
        stride = 2 if i in (2, 4, 6, 12) else 1
        x = relu(net.norm(net.alone(x, f"model.{i}.0", stride), f"model.{i}.1"))
        x = relu(net.norm(net.conv(x, f"model.{i}.3"), f"model.{i}.4"))
    return net.head(x, "fc")


WRITTEN_OUT: list[tuple[str, int, Callable]] = [
    ("wrn_16_1", 32, partial(wide_resnet, depth=16, widening=1)),
    ("wrn_16_2", 32, partial(wide_resnet, depth=16, widening=2)),
    ("wrn_16_2", 40, partial(wide_resnet, depth=16, widening=2)),
    ("wrn_40_1", 32, partial(wide_resnet, depth=40, widening=1)),
    ("wrn_40_2", 32, partial(wide_resnet, depth=40, widening=2)),
    ("vgg8", 32, partial(vgg, counts=(1, 1, 1, 1, 1))),
    ("vgg8", 64, partial(vgg, counts=(1, 1, 1, 1, 1))),
    ("vgg8", 72, partial(vgg, counts=(1, 1, 1, 1, 1))),
    ("vgg11", 32, partial(vgg, counts=(1, 1, 2, 2, 2))),
    ("vgg13", 32, partial(vgg, counts=(2, 2, 2, 2, 2))),
    ("vgg16", 32, partial(vgg, counts=(2, 2, 3, 3, 3))),
    ("vgg19", 32, partial(vgg, counts=(2, 2, 4, 4, 4))),
    ("MobileNetV2", 32, mobilenet_v2),
    ("MobileNetV2", 64, mobilenet_v2),
    ("ShuffleV1", 32, shufflenet_v1),
    ("ShuffleV1", 44, shufflenet_v1),
    ("ShuffleV2", 32, shufflenet_v2),
    ("ResNet50", 32, resnet50),
    ("MobileNetV1", 64, mobilenet_v1),
]


def network(name: str) -> torch.nn.Module:
    """A network without the trivial statistics and the fading signal of its first weights."""
    build = imagenet_network if name == "MobileNetV1" else cifar_network
    model = build(name, CLASSES).double().eval()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.dim() == 4:
                torch.nn.init.kaiming_normal_(value)
            elif key.endswith(("running_mean", "bias")):
                value.uniform_(-0.5, 0.5)
            elif value.dim() == 1 and value.is_floating_point():
                value.uniform_(0.5, 2)
    return model


@pytest.mark.parametrize(
    ("name", "side", "written_out"),
    WRITTEN_OUT,
    ids=[f"{each[0]}-{each[1]}" for each in WRITTEN_OUT],
)
def test_forward_and_names_are_the_released_networks(name, side, written_out):
    torch.manual_seed(0)
    model, x = network(name), torch.randn(2, 3, side, side, dtype=torch.float64)
    published = Published(model.state_dict())
    with torch.inference_mode():
        expected = written_out(published, x)
        assert expected.isfinite().all()
        assert not torch.allclose(expected[0], expected[1], rtol=1e-6)
        torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)
    counts = {each for each in published.state if each.endswith("num_batches_tracked")}
    assert published.used == set(published.state) - counts
    assert {f"{each.rpartition('.')[0]}.running_var" for each in counts} == {
        each for each in published.state if each.endswith("running_var")
    }
