"""The CIFAR VGGs of the distillation literature, with the parameter names of its checkpoints.

Simonyan and Zisserman, arXiv 1409.1556, table 1, with batch normalisation and one linear layer
behind a global average, as released with RepDistiller and mdistiller (`vgg13` there is its
`vgg13_bn`); `vgg8` is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from logitbank.pipeline.models.zoo.initialisation import (
    initialise_classifier,
    initialise_convolutions,
)

Blocks = tuple[tuple[int, ...], ...]

CIFAR_VGGS: dict[str, Blocks] = {
    "vgg8": ((64,), (128,), (256,), (512,), (512,)),
    "vgg11": ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2),
    "vgg13": ((64,) * 2, (128,) * 2, (256,) * 2, (512,) * 2, (512,) * 2),
    "vgg16": ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
    "vgg19": ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
}
"""Name → the widths of the convolutions in each of the five blocks."""

SMALLEST = 8
"""The side in pixels that three halvings leave something of."""

_POOLED_ONCE_MORE = 64


class CifarVgg(nn.Module):
    """Five blocks of 3 × 3 convolutions, each of the first three followed by a halving.

    Images of 64 × 64, and no others, are halved a fourth time, as the released network does it for
    Tiny ImageNet.
    """

    def __init__(self, blocks: Blocks, classes: int) -> None:
        super().__init__()
        self.block0 = _block(3, blocks[0])
        self.block1 = _block(blocks[0][-1], blocks[1])
        self.block2 = _block(blocks[1][-1], blocks[2])
        self.block3 = _block(blocks[2][-1], blocks[3])
        self.block4 = _block(blocks[3][-1], blocks[4])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(blocks[4][-1], classes)
        initialise_convolutions(self)
        initialise_classifier(self.classifier)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised images (B, 3, H, W) to logits (B, classes).

        Raises:
            ValueError: a side is smaller than `SMALLEST`.
        """
        height, width = x.shape[2:]
        if min(height, width) < SMALLEST:
            raise ValueError(f"it halves images three times, so a side is at least {SMALLEST}")
        for block in (self.block0, self.block1, self.block2):
            x = F.max_pool2d(F.relu(block(x), inplace=True), 2)
        x = F.relu(self.block3(x), inplace=True)
        if height == _POOLED_ONCE_MORE:
            x = F.max_pool2d(x, 2)
        x = F.relu(self.block4(x), inplace=True)
        return self.classifier(torch.flatten(self.avgpool(x), 1))


def cifar_vgg(name: str, classes: int) -> CifarVgg:
    """Build one of `CIFAR_VGGS`, initialised from torch's generator."""
    return CifarVgg(CIFAR_VGGS[name], classes)


def _block(inputs: int, widths: Sequence[int]) -> nn.Sequential:
    """Build convolutions with normalisation; the last has no activation, as in the checkpoints."""
    layers: list[nn.Module] = []
    for width in widths:
        convolution = nn.Conv2d(inputs, width, 3, padding=1)
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        inputs = width
    return nn.Sequential(*layers[:-1])
