"""Tables of published settings, by benchmark and by pair of networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

ANY = ""
"""Stands for any teacher."""


class DatasetKind(Enum):
    """Which of the literature's two benchmarks a dataset resembles."""

    CIFAR = "CIFAR"
    IMAGENET = "ImageNet"


CIFAR, IMAGENET = DatasetKind


@dataclass(frozen=True)
class Published:
    """The settings that a loss was published with.

    `cifar` and `imagenet` are all settings of either benchmark; `pairs` are those that differ, by
    benchmark, teacher (or `ANY`) and student.
    """

    cifar: Mapping[str, Any]
    imagenet: Mapping[str, Any]
    pairs: Mapping[tuple[DatasetKind, str, str], Mapping[str, Any]] = field(default_factory=dict)

    def settings(self, kind: DatasetKind, teacher: str = "", student: str = "") -> dict[str, Any]:
        """Return the settings for a benchmark and a pair of networks.

        Args:
            kind: which benchmark the dataset resembles.
            teacher: its spec or its network's name; empty if unknown.
            student: likewise.
        """
        usual = self.cifar if kind is CIFAR else self.imagenet
        pair = network_name(teacher), network_name(student)
        for (of, *names), changes in self.pairs.items():
            named = tuple(map(network_name, names))
            if of is kind and named[1] == pair[1] and named[0] in (pair[0], ANY):
                return {**usual, **changes}
        return dict(usual)


def network_name(spec: str) -> str:
    """Return the network of a spec as in tables of pairs: lower-case letters and digits.

    >>> network_name("cifar:wrn_40_2@teacher.pth"), network_name("torchvision:resnet18")
    ('wrn402', 'resnet18')
    """
    name = spec.partition("@")[0].rpartition(":")[2]
    return "".join(filter(str.isalnum, name)).lower()
