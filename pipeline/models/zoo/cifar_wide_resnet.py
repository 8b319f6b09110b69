"""The wide ResNets of the distillation literature, with the parameter names of its checkpoints.

Zagoruyko and Komodakis, arXiv 1605.07146, without dropout, as released with RepDistiller and
mdistiller: a stem of 16 channels and three stages of (depth - 4) / 6 blocks that normalise before
they convolve.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

from logitbank.pipeline.models.zoo.initialisation import initialise_convolutions

STEM = 16

WIDE_RESNETS: dict[str, tuple[int, int]] = {
    "wrn_16_1": (16, 1),
    "wrn_16_2": (16, 2),
    "wrn_40_1": (40, 1),
    "wrn_40_2": (40, 2),
}
"""Name → (depth, widening factor)."""


class PreActivationBlock(nn.Module):
    """Two 3 × 3 convolutions, each after its normalisation, beside a shortcut.

    Where the width changes, the shortcut too starts from the normalised input, and is projected.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.convShortcut: nn.Module | None = None
        if inputs != outputs:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        active = F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        out = F.relu(self.bn2(self.conv1(active)), inplace=True)
        return shortcut + self.conv2(out)


class WideResNet(nn.Module):
    """A wide ResNet for small images; `depth` counts the layers, 6n + 4."""

    def __init__(self, depth: int, widening: int, classes: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        widths = [STEM * widening * factor for factor in (1, 2, 4)]
        self.conv1 = nn.Conv2d(3, STEM, 3, padding=1, bias=False)
        self.block1 = _stage(STEM, widths[0], blocks, stride=1)
        self.block2 = _stage(widths[0], widths[1], blocks, stride=2)
        self.block3 = _stage(widths[1], widths[2], blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[2], classes)
        initialise_convolutions(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised images (B, 3, H, W) to logits (B, classes)."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        x = F.relu(self.bn1(x), inplace=True)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def wide_resnet(name: str, classes: int) -> WideResNet:
    """Build one of `WIDE_RESNETS`, initialised from torch's generator."""
    depth, widening = WIDE_RESNETS[name]
    return WideResNet(depth, widening, classes)


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = PreActivationBlock(inputs, outputs, stride)
    others = (PreActivationBlock(outputs, outputs, 1) for _ in range(blocks - 1))
    return nn.Sequential(OrderedDict(layer=nn.Sequential(first, *others)))
