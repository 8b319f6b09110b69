"""The CIFAR ShuffleNets of the distillation literature, with its checkpoints' parameter names.

ShuffleNetV1 (Zhang et al., arXiv 1707.01083, at 3 groups) and V2 (Ma et al., arXiv 1807.11164, at
width 1), as released with RepDistiller and mdistiller. They differ from the papers: the stem is a
1 × 1 convolution that halves nothing, and V1 activates after its convolution of single channels
too. Weights start as torch initialises them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

STEM = 24
GROUPS = 3

V1_STAGES = ((240, 4), (480, 8), (960, 4))
"""Of each stage: width, blocks."""

V2_STAGES = ((116, 4), (232, 8), (464, 4))
V2_LAST = 1024


def channel_shuffle(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Shuffle channels: of (B, C, H, W), channel g·(C / groups) + i goes to i·groups + g.

    >>> channel_shuffle(torch.arange(6).view(1, 6, 1, 1), 2).flatten().tolist()
    [0, 3, 1, 4, 2, 5]
    """
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class GroupedBottleneck(nn.Module):
    """V1's building block: two grouped 1 × 1 convolutions around one of single channels.

    With stride 2, the averaged input is put beside the result; with stride 1, it is added to it.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        added = outputs - inputs if stride == 2 else outputs
        narrow = added // 4
        self.stride = stride
        # The stem's channels are too few to be grouped.
        self.groups = 1 if inputs == STEM else GROUPS
        self.conv1 = nn.Conv2d(inputs, narrow, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.conv2 = _single_channels(narrow, stride)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.conv3 = nn.Conv2d(narrow, added, 1, groups=GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(added)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        out = channel_shuffle(F.relu(self.bn1(self.conv1(x))), self.groups)
        out = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(out)))))
        if self.stride == 2:
            return F.relu(torch.cat([out, F.avg_pool2d(x, 3, stride=2, padding=1)], 1))
        return F.relu(out + x)


class SplitBlock(nn.Module):
    """V2's block: half of the channels pass, the other half is convolved, both are shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = _single_channels(half, stride=1)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, channels, H, W) to the same shape."""
        passed, out = x.chunk(2, dim=1)
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(out)))))
        out = F.relu(self.bn3(self.conv3(out)))
        return channel_shuffle(torch.cat([passed, out], 1), 2)


class HalvingBlock(nn.Module):
    """V2's block of stride 2: two branches over all channels (1 and 2, 3 to 5), shuffled."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.conv1 = _single_channels(inputs, stride=2)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = _single_channels(half, stride=2)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / 2, W / 2)."""
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = self.bn4(self.conv4(F.relu(self.bn3(self.conv3(x)))))
        right = F.relu(self.bn5(self.conv5(right)))
        return channel_shuffle(torch.cat([left, right], 1), 2)


class CifarShuffleNetV1(nn.Module):
    """A ShuffleNetV1 for small images, which halves them three times."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        (first, _), (second, _), (third, _) = V1_STAGES
        self.conv1 = nn.Conv2d(3, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.layer1 = _v1_stage(STEM, *V1_STAGES[0])
        self.layer2 = _v1_stage(first, *V1_STAGES[1])
        self.layer3 = _v1_stage(second, *V1_STAGES[2])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(third, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised images (B, 3, H, W) to logits (B, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(torch.flatten(self.avgpool(x), 1))


class CifarShuffleNetV2(nn.Module):
    """A ShuffleNetV2 for small images, which halves them three times."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        (first, _), (second, _), (third, _) = V2_STAGES
        self.conv1 = nn.Conv2d(3, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.layer1 = _v2_stage(STEM, *V2_STAGES[0])
        self.layer2 = _v2_stage(first, *V2_STAGES[1])
        self.layer3 = _v2_stage(second, *V2_STAGES[2])
        self.conv2 = nn.Conv2d(third, V2_LAST, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(V2_LAST)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(V2_LAST, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised images (B, 3, H, W) to logits (B, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.linear(torch.flatten(self.avgpool(x), 1))


CIFAR_SHUFFLENETS: dict[str, Callable[[int], nn.Module]] = {
    "ShuffleV1": CifarShuffleNetV1,
    "ShuffleV2": CifarShuffleNetV2,
}
"""Name → network of a number of classes."""


def cifar_shufflenet(name: str, classes: int) -> nn.Module:
    """Build one of `CIFAR_SHUFFLENETS`, initialised from torch's generator."""
    return CIFAR_SHUFFLENETS[name](classes)


def _single_channels(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)


def _v1_stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    first = GroupedBottleneck(inputs, outputs, stride=2)
    return nn.Sequential(
        first, *(GroupedBottleneck(outputs, outputs, stride=1) for _ in range(blocks - 1))
    )


def _v2_stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    first = HalvingBlock(inputs, outputs)
    return nn.Sequential(first, *(SplitBlock(outputs) for _ in range(blocks - 1)))
