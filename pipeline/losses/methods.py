"""Methods of distillation by name: what each needs, and the settings it was published with.

`+ls` stands for standardised logits (arXiv 2403.01427), which compose with a method; `lskd` is KD
on them, and may be written `kd+ls`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import TypeAdapter, ValidationError

from logitbank.pipeline.losses import ctkd, dkd, kd, mlkd, sld
from logitbank.pipeline.losses.cross_entropy import CEWeights
from logitbank.stores.errors import UsageError, unknown_name

Settings = (
    CEWeights
    | kd.KDWeights
    | dkd.DKDSettings
    | ctkd.CTKDSettings
    | mlkd.MLKDSettings
    | sld.SLDSettings
)

LS_WEIGHT = 9.0
"""What standardisation multiplies DKD's alpha and beta by."""

LS_TEMPERATURE = 2.0
"""The temperature of standardised logits."""


class DatasetKind(Enum):
    """Which of the literature's two benchmarks a dataset is like."""

    CIFAR = "CIFAR"
    IMAGENET = "ImageNet"


@dataclass(frozen=True)
class _Entry:
    """What a name stands for: published settings, the views it learns from, standardisation."""

    cifar: Settings
    imagenet: Settings
    views: int = 1
    standardised: bool = False


def _standardised_dkd(settings: dkd.DKDSettings) -> dkd.DKDSettings:
    """Give DKD's settings on standardised logits: alpha and beta nine times, temperature 2.

    That is what arXiv 2403.01427's `--kd-weight 9 --base-temp 2` is meant to do. As released, it
    makes beta 81 times alpha whatever beta was, and sets KD's temperature but not DKD's, which
    stays 4; the released logs name other weights by pair. Followed here is what is meant.
    """
    return dataclasses.replace(
        settings,
        alpha=LS_WEIGHT * settings.alpha,
        beta=LS_WEIGHT * settings.beta,
        temperature=LS_TEMPERATURE,
    )


_ENTRIES = {
    "ce": _Entry(CEWeights(), CEWeights()),
    "kd": _Entry(kd.CIFAR_KD, kd.IMAGENET_KD),
    "lskd": _Entry(kd.CIFAR_LSKD, kd.IMAGENET_LSKD, standardised=True),
    "dkd": _Entry(dkd.CIFAR_DKD, dkd.IMAGENET_DKD),
    "dkd+ls": _Entry(
        _standardised_dkd(dkd.CIFAR_DKD), _standardised_dkd(dkd.IMAGENET_DKD), standardised=True
    ),
    "ctkd": _Entry(ctkd.CIFAR_CTKD, ctkd.IMAGENET_CTKD),
    "ctkd+ls": _Entry(ctkd.CIFAR_CTKD_LS, ctkd.IMAGENET_CTKD_LS, standardised=True),
    "mlkd": _Entry(mlkd.CIFAR_MLKD, mlkd.IMAGENET_MLKD, views=2),
    "mlkd+ls": _Entry(mlkd.CIFAR_MLKD_LS, mlkd.IMAGENET_MLKD_LS, views=2, standardised=True),
    "sld": _Entry(sld.CIFAR_SLD, sld.IMAGENET_SLD, views=2),
    "sld-kd": _Entry(sld.CIFAR_SLD_KD, sld.IMAGENET_SLD_KD),
}

METHODS = tuple(_ENTRIES)
"""The names of all methods."""

_SYNONYMS = {"kd+ls": "lskd"}


@dataclass(frozen=True)
class Method:
    """A method and its settings; `published_method` gives it as published.

    Raises:
        UsageError: an unknown name.
        TypeError: the settings of another method.
    """

    name: str
    settings: Settings

    def __post_init__(self) -> None:
        if self.name not in _ENTRIES:
            raise unknown_name("loss", self.name, METHODS)
        expected = type(_ENTRIES[self.name].cifar)
        if not isinstance(self.settings, expected):
            raise TypeError(
                f"{self.name} takes {expected.__name__}, not {type(self.settings).__name__}"
            )

    @property
    def views(self) -> int:
        """How many views of each image it learns from: 1, or 2, a weak and a strong one.

        Each is a store of its own, of one teacher.
        """
        return _ENTRIES[self.name].views

    @property
    def standardised(self) -> bool:
        """Whether what it distils is standardised logits."""
        return _ENTRIES[self.name].standardised

    @property
    def needs_teacher(self) -> bool:
        """Whether it learns from a teacher's logits, rather than from labels alone."""
        return not isinstance(self.settings, CEWeights)

    @property
    def needs_one_label(self) -> bool:
        """Whether it tells the label from the other classes, so that mixed images won't do."""
        return isinstance(self.settings, dkd.DKDSettings | sld.SLDSettings)

    @property
    def own_correction(self) -> str | None:
        """The correction that it makes of raw logits, as it was published: SLD's swap."""
        return "swap" if isinstance(self.settings, sld.SLDSettings) else None

    def require_one_label(self) -> None:
        """Refuse mixed images where the method needs one label for each.

        Raises:
            UsageError: it does.
        """
        if self.needs_one_label:
            raise UsageError(
                f"--loss {self.name} tells an image's label from the other classes, but mixed "
                "images have two labels: use a store without MixUp or CutMix, or --loss kd"
            )

    def learned_temperature(self) -> ctkd.LearnedTemperature | None:
        """Build the module that the method trains besides the student; None for all but CTKD."""
        if isinstance(self.settings, ctkd.CTKDSettings):
            return ctkd.LearnedTemperature(self.settings)
        return None

    def with_settings(self, **changes: Any) -> Method:
        """Give the method with some settings changed; numbers may be strings, as typed by a user.

        Raises:
            UsageError: an unknown setting (the nearest is suggested), or a value it can't have.
        """
        known = dataclasses.asdict(self.settings)
        for name in changes:
            if name not in known:
                raise unknown_name(f"setting of {self.name}", name, known)
        try:
            settings = TypeAdapter(type(self.settings)).validate_python({**known, **changes})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise UsageError(f"{self.name}: {where}: {first['msg']}") from error
        return Method(self.name, settings)

    def on_logits(self, correction: str | None) -> Method:
        """Give the method as it takes a teacher's logits with or without a correction.

        SLD swaps the logits that a teacher in the loop gives; those of a store come swapped (see
        `own_correction`) or with another correction, and are left. The others take logits as they
        come.

        Args:
            correction: what was made of the logits before the loss, None for raw ones.
        """
        if isinstance(self.settings, sld.SLDSettings):
            return self.with_settings(swap_teacher=correction is None)
        return self

    def scaled(self, epochs: int, published_epochs: int) -> Method:
        """Give the method for a run of another length than the published one.

        In a shorter one DKD's warm-up and CTKD's reversal take the same share of it, rounded up to
        whole epochs; in a longer one they last as long as published. SLD's γ stays: it follows the
        learning rate (see `published_method`).
        """

        def share(of: int) -> int:
            return min(of, max(1, -(-of * epochs // published_epochs)))

        if isinstance(self.settings, dkd.DKDSettings):
            return self.with_settings(warmup=share(self.settings.warmup))
        if isinstance(self.settings, ctkd.CTKDSettings):
            return self.with_settings(loops=share(self.settings.loops))
        return self


def published_method(
    name: str,
    kind: DatasetKind,
    *,
    teacher: str | None = None,
    student: str | None = None,
    first_drop: int | None = None,
) -> Method:
    """Give a method with its published settings.

    Args:
        name: one of `METHODS`, or `kd+ls`.
        kind: which benchmark the dataset is like.
        teacher: its spec or its network's name, where settings differ by pair.
        student: likewise.
        first_drop: the epoch in which the learning rate first drops, counted from 0, SLD's γ; None
            takes the published schedule's.

    Raises:
        UsageError: an unknown name; the nearest is suggested.
    """
    name = _SYNONYMS.get(name, name)
    if name not in _ENTRIES:
        raise unknown_name("loss", name, METHODS)
    entry = _ENTRIES[name]
    settings = entry.cifar if kind is DatasetKind.CIFAR else entry.imagenet
    pair = network_name(teacher or ""), network_name(student or "")
    if isinstance(settings, dkd.DKDSettings):
        beta = _dkd_beta(kind, pair)
        if beta is not None:
            settings = dataclasses.replace(
                settings, beta=LS_WEIGHT * beta if entry.standardised else beta
            )
    if isinstance(settings, sld.SLDSettings):
        if first_drop is not None:
            settings = dataclasses.replace(settings, gamma=first_drop)
        if kind is DatasetKind.IMAGENET and name == "sld":
            settings = dataclasses.replace(settings, ce=_sld_ce(settings.ce, pair[1]))
    return Method(name, settings)


def network_name(spec: str) -> str:
    """Give the network of a spec as the tables of pairs know it: lower-case letters and digits.

    >>> network_name("cifar:wrn_40_2@teacher.pth"), network_name("torchvision:resnet18")
    ('wrn402', 'resnet18')
    """
    name = spec.partition("@")[0].rpartition(":")[2]
    return "".join(filter(str.isalnum, name)).lower()


def _dkd_beta(kind: DatasetKind, pair: tuple[str, str]) -> float | None:
    if kind is DatasetKind.CIFAR:
        by_pair = {tuple(map(network_name, key)): b for key, b in dkd.CIFAR_DKD_BETA.items()}
        return by_pair.get(pair)
    return {network_name(key): b for key, b in dkd.IMAGENET_DKD_BETA.items()}.get(pair[1])


def _sld_ce(usual: float, student: str) -> float:
    return {network_name(key): ce for key, ce in sld.IMAGENET_SLD_CE.items()}.get(student, usual)
