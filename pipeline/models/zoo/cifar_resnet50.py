"""The CIFAR ResNet50 of the distillation literature, with its checkpoints' parameter names.

He et al., arXiv 1512.03385, table 1, with a 3 × 3 stem that halves nothing, as released with
RepDistiller and mdistiller (in a file `resnetv2`, though it normalises after it convolves). Its 3 ×
3 convolutions have the stride.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from logitbank.pipeline.models.zoo.initialisation import initialise_convolutions

STEM = 64
EXPANSION = 4

CIFAR_BOTTLENECK_RESNETS: dict[str, tuple[int, int, int, int]] = {"ResNet50": (3, 4, 6, 3)}
"""Name → blocks of the four stages."""


class Bottleneck(nn.Module):
    """Narrow, convolve, widen, beside a shortcut, which is projected where the shape changes."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, 4 · width, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        out += self.shortcut(x)
        return F.relu(out, inplace=True)


class CifarBottleneckResNet(nn.Module):
    """A ResNet of bottlenecks for small images, which halves them three times."""

    def __init__(self, blocks: tuple[int, int, int, int], classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.layer1 = _stage(STEM, 64, blocks[0], stride=1)
        self.layer2 = _stage(64 * EXPANSION, 128, blocks[1], stride=2)
        self.layer3 = _stage(128 * EXPANSION, 256, blocks[2], stride=2)
        self.layer4 = _stage(256 * EXPANSION, 512, blocks[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(512 * EXPANSION, classes)
        initialise_convolutions(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised images (B, 3, H, W) to logits (B, classes)."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(torch.flatten(self.avgpool(x), 1))


def cifar_bottleneck_resnet(name: str, classes: int) -> CifarBottleneckResNet:
    """Build one of `CIFAR_BOTTLENECK_RESNETS`, initialised from torch's generator."""
    return CifarBottleneckResNet(CIFAR_BOTTLENECK_RESNETS[name], classes)


def _stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(inputs, width, stride)
    return nn.Sequential(
        first, *(Bottleneck(width * EXPANSION, width, 1) for _ in range(blocks - 1))
    )
