"""The CIFAR MobileNetV2 of the distillation literature, with its checkpoints' parameter names.

Sandler et al., arXiv 1801.04381, table 2, at half width, as released with RepDistiller and
mdistiller (`mobile_half`). It differs from the paper: the second row of the table keeps its
resolution, activations are ReLU and not ReLU6, the first block expands too (by 1), widths are cut
and not rounded to multiples of eight, and nothing is dropped out.
"""

from __future__ import annotations

import torch
from torch import nn

from logitbank.pipeline.models.zoo.initialisation import (
    initialise_classifier,
    initialise_convolutions,
)

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Of each stage: expansion, width, blocks, stride of its first block."""

STEM = 32
LAST = 1280

CIFAR_MOBILENETS: dict[str, float] = {"MobileNetV2": 0.5}
"""Name → factor on all widths but the last convolution's."""


class InvertedResidual(nn.Module):
    """Widen, convolve each channel alone, narrow; added to the input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *_convolution(inputs, wide, 1),
            *_convolution(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return x + self.conv(x) if self.adds else self.conv(x)


class CifarMobileNetV2(nn.Module):
    """A MobileNetV2 for small images, which halves them four times, the first time in its stem."""

    def __init__(self, width: float, classes: int) -> None:
        super().__init__()
        channels = int(STEM * width)
        self.conv1 = _convolution(3, channels, 3, stride=2)
        self.blocks = nn.ModuleList()
        for expansion, full, count, stride in STAGES:
            outputs = int(full * width)
            first = InvertedResidual(channels, outputs, stride, expansion)
            others = (InvertedResidual(outputs, outputs, 1, expansion) for _ in range(count - 1))
            self.blocks.append(nn.Sequential(first, *others))
            channels = outputs
        self.conv2 = _convolution(channels, LAST, 1)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        classifier = nn.Linear(LAST, classes)
        self.classifier = nn.Sequential(classifier)
        initialise_convolutions(self)
        initialise_classifier(classifier)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised images (B, 3, H, W) to logits (B, classes)."""
        x = self.conv1(x)
        for stage in self.blocks:
            x = stage(x)
        return self.classifier(torch.flatten(self.avgpool(self.conv2(x)), 1))


def cifar_mobilenet(name: str, classes: int) -> CifarMobileNetV2:
    """Build one of `CIFAR_MOBILENETS`, initialised from torch's generator."""
    return CifarMobileNetV2(CIFAR_MOBILENETS[name], classes)


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    padding = kernel // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
