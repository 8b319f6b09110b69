"""The CIFAR ResNets of the distillation literature, with the parameter names of its checkpoints.

He et al., arXiv 1512.03385, section 4.2, with the projection shortcuts and the widths of the
networks released with RepDistiller and mdistiller: a stem and three stages of (depth - 2) / 6 basic
blocks; the "x4" networks are four times as wide behind a stem twice as wide.
"""

from __future__ import annotations

import torch
from torch import nn

from logitbank.pipeline.models.zoo.initialisation import initialise_convolutions

Widths = tuple[int, int, int, int]

NARROW: Widths = (16, 16, 32, 64)
WIDE: Widths = (32, 64, 128, 256)

CIFAR_RESNETS: dict[str, tuple[int, Widths]] = {
    "resnet8": (8, NARROW),
    "resnet14": (14, NARROW),
    "resnet20": (20, NARROW),
    "resnet32": (32, NARROW),
    "resnet44": (44, NARROW),
    "resnet56": (56, NARROW),
    "resnet110": (110, NARROW),
    "resnet8x4": (8, WIDE),
    "resnet32x4": (32, WIDE),
}
"""Name → (depth, widths of the stem and the three stages)."""


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut, which is projected where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += shortcut
        return self.relu(out)


class CifarResNet(nn.Module):
    """A ResNet for small images; `depth` counts the layers, 6n + 2."""

    def __init__(self, depth: int, widths: Widths, classes: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        stem, *stages = widths
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(stem, stages[0], blocks, stride=1)
        self.layer2 = _stage(stages[0], stages[1], blocks, stride=2)
        self.layer3 = _stage(stages[1], stages[2], blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(stages[2], classes)
        initialise_convolutions(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised images (B, 3, H, W) to logits (B, classes)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def cifar_resnet(name: str, classes: int) -> CifarResNet:
    """Build one of `CIFAR_RESNETS`, initialised from torch's generator."""
    depth, widths = CIFAR_RESNETS[name]
    return CifarResNet(depth, widths, classes)


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))
