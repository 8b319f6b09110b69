"""What a training run is asked to do."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from logitbank.pipeline.devices import usable_device
from logitbank.pipeline.losses import CIFAR_KD, IMAGENET_KD, KDWeights
from logitbank.stores.errors import LogitbankError, UsageError, unknown_name

LOSSES = ("ce", "kd")
VERIFY_PIXELS = ("all", "sample", "off")
_CHANGE_NOTHING = ("workers", "verify_pixels")
_CIFAR_DROPS = (150, 180, 210, 240)
_IMAGENET_DROPS = (30, 60, 90, 100)


@dataclass(frozen=True)
class TrainConfig:
    """A run's configuration, as its `config.yaml` holds it; names are timm's where timm has them.

    `student`, `dataset`, `soft_labels`, `correction`, `teacher` and `eval_dataset` are specs and
    paths as the user gave them. What is None is filled by `resolved`: the loss by what there is to
    learn from, its weights and temperature and the epochs of the learning rate's drops (from 0, the
    first epoch trained at the lower rate) as published, the device by what the machine has.
    `threads` None takes torch's own number. `amp` is mixed precision, on CUDA alone.

    Raises:
        UsageError: a value that can't be meant.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    student: str
    dataset: str = ""
    soft_labels: tuple[str, ...] = ()
    correction: str | None = None
    teacher: str | None = None
    eval_dataset: str | None = None
    loss: str | None = None
    temperature: float | None = None
    ce_weight: float | None = None
    kd_weight: float | None = None
    epochs: int = 240
    batch_size: int = 64
    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    milestones: tuple[int, ...] | None = None
    seed: int = 0
    limit: int | None = None
    amp: bool = False
    channels_last: bool = False
    device: str | None = None
    threads: int | None = None
    workers: int = 2
    verify_pixels: str = "all"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "limit", "threads"):
            _require(self, name, "1 or more", lambda value: value >= 1)
        for name in ("ce_weight", "kd_weight", "weight_decay", "workers", "seed"):
            _require(self, name, "0 or more", lambda value: value >= 0)
        for name in ("lr", "temperature"):
            _require(self, name, "above 0", lambda value: value > 0)
        _require(self, "momentum", "from 0 to below 1", lambda value: 0 <= value < 1)
        _require(self, "seed", "below 2**64", lambda value: value < 2**64)
        milestones = self.milestones or ()
        if list(milestones) != sorted(milestones) or min(milestones, default=0) < 0:
            raise UsageError(f"milestones are epochs from 0 in order, not {list(milestones)}")
        if self.loss is not None and self.loss not in LOSSES:
            raise unknown_name("loss", self.loss, LOSSES)
        if self.verify_pixels not in VERIFY_PIXELS:
            raise unknown_name("way to verify pixels", self.verify_pixels, VERIFY_PIXELS)

    @classmethod
    def from_yaml(cls, text: str, where: str) -> TrainConfig:
        """Read what `to_yaml` wrote.

        Raises:
            LogitbankError: it is no such configuration; the message begins with `where`.
        """
        try:
            return _ADAPTER.validate_python(yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise LogitbankError(f"{where} is no YAML: {' '.join(str(error).split())}") from error
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the whole"
            raise LogitbankError(f"{where}: {field}: {first['msg']}") from error

    def to_yaml(self) -> str:
        """Write the configuration in plain YAML, in the order of the fields."""
        values = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }
        return yaml.safe_dump(values, sort_keys=False)

    def differences(self, wanted: TrainConfig) -> list[str]:
        """List the fields that differ and change what is learned, one phrase each."""
        mine, other = dataclasses.asdict(self), dataclasses.asdict(wanted)
        return [
            f"{name} is {mine[name]!r} there, {other[name]!r} here"
            for name in mine
            if mine[name] != other[name] and name not in _CHANGE_NOTHING
        ]

    def resolved(self, *, in_memory: bool, has_soft_labels: bool) -> TrainConfig:
        """Fill what is None, but for `limit`, `threads` and the specs.

        Args:
            in_memory: whether the dataset is one of small images, as CIFAR, rather than of files,
                as ImageNet: the published settings differ.
            has_soft_labels: whether there is a store or a teacher to learn from.

        Raises:
            UsageError: a distillation loss with nothing to distil, or mixed precision without CUDA.
        """
        device = usable_device(self.device)
        if self.amp and device.type != "cuda":
            raise UsageError(f"--amp needs a CUDA device, this run is on {device}")
        loss = self.loss or ("kd" if has_soft_labels else "ce")
        if loss != "ce" and not has_soft_labels:
            raise UsageError(f"--loss {loss} needs --soft-labels STORE or --teacher SPEC")
        drops = _CIFAR_DROPS if in_memory else _IMAGENET_DROPS
        milestones = self.milestones
        if milestones is None:
            milestones = scaled_milestones(drops, self.epochs)
        config = dataclasses.replace(self, device=str(device), loss=loss, milestones=milestones)
        return config._with_weights(in_memory)

    @property
    def weights(self) -> KDWeights:
        """The weights and temperature of the loss, once they are resolved."""
        return KDWeights(self.ce_weight or 0.0, self.kd_weight or 0.0, self.temperature or 1.0)

    def _with_weights(self, in_memory: bool) -> TrainConfig:
        if self.loss == "ce":
            ce_weight = 1.0 if self.ce_weight is None else self.ce_weight
            return dataclasses.replace(self, ce_weight=ce_weight, kd_weight=None, temperature=None)
        usual = CIFAR_KD if in_memory else IMAGENET_KD
        return dataclasses.replace(
            self,
            ce_weight=usual.ce if self.ce_weight is None else self.ce_weight,
            kd_weight=usual.kd if self.kd_weight is None else self.kd_weight,
            temperature=self.temperature or usual.temperature,
        )


_ADAPTER = TypeAdapter(TrainConfig)


def scaled_milestones(published: tuple[int, ...], epochs: int) -> tuple[int, ...]:
    """Scale the published epochs of the drops, the last entry being all epochs, to `epochs`.

    Published epochs count from 1 and name the last one before a drop; counted from 0 the same
    number is the first one after it. Fractions are rounded up, so that no drop comes early.

    >>> scaled_milestones((150, 180, 210, 240), 240)
    (150, 180, 210)
    >>> scaled_milestones((150, 180, 210, 240), 10)
    (7, 8, 9)
    """
    *drops, total = published
    return tuple(math.ceil(drop * epochs / total) for drop in drops)


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """Give the rate of an epoch, from 0: a tenth of it for each milestone reached."""
    drops = sum(milestone <= epoch for milestone in config.milestones or ())
    return config.lr / 10**drops


def _require(config: TrainConfig, name: str, expected: str, holds: Callable[[float], bool]) -> None:
    value = getattr(config, name)
    if value is not None and not holds(value):
        raise UsageError(f"{name} must be {expected}, not {value}")
