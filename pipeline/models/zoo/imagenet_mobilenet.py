"""The MobileNetV1 of the distillation literature's ImageNet pair, which torchvision lacks.

Howard et al., arXiv 1704.04861, table 1, as mdistiller has it, with the parameter names of its
checkpoints. Weights start as torch initialises them. The last pooling is a global average, which at
224 × 224 is the released one of 7 × 7.
"""

from __future__ import annotations

import torch
from torch import nn

from logitbank.stores.errors import unknown_name

STEM = 32

SEPARABLE = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
"""Of each depthwise-separable convolution: width, stride."""

IMAGENET_NETWORKS = ("MobileNetV1",)


class MobileNetV1(nn.Module):
    """A MobileNetV1, which halves images five times, the first time in its stem."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers = [_activated(nn.Conv2d(3, STEM, 3, stride=2, padding=1, bias=False))]
        channels = STEM
        for width, stride in SEPARABLE:
            alone = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
            mixed = nn.Conv2d(channels, width, 1, bias=False)
            layers.append(nn.Sequential(*_activated(alone), *_activated(mixed)))
            channels = width
        self.model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised images (B, 3, H, W) to logits (B, classes)."""
        return self.fc(torch.flatten(self.model(x), 1))


def imagenet_network(name: str, classes: int) -> nn.Module:
    """Build one of `IMAGENET_NETWORKS`, initialised from torch's generator.

    Raises:
        UsageError: there is no network of that name.
    """
    if name not in IMAGENET_NETWORKS:
        raise unknown_name("ImageNet network outside torchvision", name, IMAGENET_NETWORKS)
    return MobileNetV1(classes)


def _activated(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(
        convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True)
    )
