"""The CIFAR networks of the distillation literature, by their names in mdistiller."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

from logitbank.pipeline.models.zoo.cifar_mobilenet import CIFAR_MOBILENETS, cifar_mobilenet
from logitbank.pipeline.models.zoo.cifar_resnet import CIFAR_RESNETS, cifar_resnet
from logitbank.pipeline.models.zoo.cifar_resnet50 import (
    CIFAR_BOTTLENECK_RESNETS,
    cifar_bottleneck_resnet,
)
from logitbank.pipeline.models.zoo.cifar_shufflenet import CIFAR_SHUFFLENETS, cifar_shufflenet
from logitbank.pipeline.models.zoo.cifar_vgg import CIFAR_VGGS, cifar_vgg
from logitbank.pipeline.models.zoo.cifar_wide_resnet import WIDE_RESNETS, wide_resnet
from logitbank.stores.errors import UsageError, unknown_name

Build = Callable[[str, int], nn.Module]

_FAMILIES: tuple[tuple[Iterable[str], Build], ...] = (
    (CIFAR_RESNETS, cifar_resnet),
    (WIDE_RESNETS, wide_resnet),
    (CIFAR_VGGS, cifar_vgg),
    (CIFAR_MOBILENETS, cifar_mobilenet),
    (CIFAR_SHUFFLENETS, cifar_shufflenet),
    (CIFAR_BOTTLENECK_RESNETS, cifar_bottleneck_resnet),
)

CIFAR_NETWORKS: dict[str, Build] = {name: build for names, build in _FAMILIES for name in names}
"""Name → function that builds it from the name and the number of classes."""


def cifar_network(name: str, classes: int) -> nn.Module:
    """Build one of `CIFAR_NETWORKS`, initialised from torch's generator.

    Raises:
        UsageError: there is no network of that name; the nearest is suggested.
    """
    if name in CIFAR_NETWORKS:
        return CIFAR_NETWORKS[name](name, classes)
    # By spelling alone, resnet50 is nearer to resnet56 than to ResNet50.
    for known in CIFAR_NETWORKS:
        if known.lower() == name.lower():
            raise UsageError(
                f"unknown CIFAR network {name!r}: did you mean {known!r}? (capitals matter)"
            )
    raise unknown_name("CIFAR network", name, CIFAR_NETWORKS)
