"""What a training run is asked to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import yaml

from logitbank.pipeline.bounds import (
    Count,
    Expected,
    Fraction,
    NonNegative,
    NonNegativeInt,
    Positive,
    Seed,
    check_fields,
    from_mapping,
)
from logitbank.pipeline.plain_yaml import parse_yaml
from logitbank.stores.errors import LogitbankError, UsageError, unknown_name

LossSetting = Annotated[
    bool | int | float | str | tuple[float, ...],
    Expected("a number, a list of numbers, true, false or text"),
]

SCHEDULES = ("step", "cosine")
VERIFY_PIXELS = ("all", "sample", "off")
# The stores that it learned from are held against the run by their digests.
_CHANGE_NOTHING = ("workers", "verify_pixels", "teacher_correction")


@dataclass(frozen=True)
class TrainConfig:
    """A run's configuration, as its `config.yaml` holds it; names are timm's where timm has them.

    `student`, `dataset`, `soft_labels`, `correction`, `teacher` and `eval_dataset` are specs and
    paths as the user gave them; of two stores the first holds weak views, the second strong ones.
    What is None is filled by `resolution.resolved`: the loss by what there is to learn from, its
    settings and the epochs of the learning rate's drops (from 0, the first epoch trained at the
    lower rate) as published, the device by what the machine has. `loss_settings` are those of the
    loss that have no field of their own, by the names in `pipeline.losses`. `teacher_correction` is found, not
    asked for: the correction that the logits had when the loss took them, None for raw ones.
    `strong_augmentation` is drawn where strong views don't come from a store. `threads` None takes
    torch's own number. `amp` is mixed precision, on CUDA alone. `torchcompile` names the backend of
    torch.compile. A step's gradient is the mean of those of `grad_accum_steps` batches. Of the
    split's samples the first `skip` are left out, and `limit` of the others are trained on.

    Raises:
        UsageError: a value that can't be meant.
    """

    student: str
    dataset: str = ""
    soft_labels: tuple[str, ...] = ()
    correction: str | None = None
    teacher: str | None = None
    teacher_correction: str | None = None
    strong_augmentation: str | None = None
    eval_dataset: str | None = None
    loss: str | None = None
    temperature: Positive | None = None
    ce_weight: NonNegative | None = None
    kd_weight: NonNegative | None = None
    loss_settings: dict[str, LossSetting] = field(default_factory=dict)
    epochs: Count = 240
    batch_size: Count = 64
    grad_accum_steps: Count = 1
    lr: Positive = 0.05
    momentum: Fraction = 0.9
    weight_decay: NonNegative = 5e-4
    sched: str = "step"
    warmup_epochs: NonNegativeInt = 0
    milestones: tuple[int, ...] | None = None
    model_ema: bool = False
    model_ema_decay: Fraction = 0.9998
    seed: Seed = 0
    limit: Count | None = None
    skip: NonNegativeInt = 0
    amp: bool = False
    channels_last: bool = False
    torchcompile: str | None = None
    device: str | None = None
    threads: Count | None = None
    workers: NonNegativeInt = 2
    verify_pixels: str = "all"

    def __post_init__(self) -> None:
        check_fields(self)
        milestones = self.milestones or ()
        if list(milestones) != sorted(milestones) or min(milestones, default=0) < 0:
            raise UsageError(f"milestones are epochs from 0 in order, not {list(milestones)}")
        if self.loss is not None:
            _require_loss(self.loss)
        if self.sched not in SCHEDULES:
            raise unknown_name("schedule", self.sched, SCHEDULES)
        if self.verify_pixels not in VERIFY_PIXELS:
            raise unknown_name("way to verify pixels", self.verify_pixels, VERIFY_PIXELS)

    @classmethod
    def from_yaml(cls, text: str, where: str) -> TrainConfig:
        """Read what `to_yaml` wrote.

        Raises:
            LogitbankError: it is no such configuration; the message begins with `where`.
        """
        found = parse_yaml(text, where)
        if not isinstance(found, Mapping):
            kind = type(found).__name__
            raise LogitbankError(f"{where}: it must map fields to values, not be a {kind}")
        try:
            return from_mapping(cls, found, "field")
        except UsageError as error:
            raise LogitbankError(f"{where}: {error}") from error

    def to_yaml(self) -> str:
        """Write the configuration in plain YAML, in the order of the fields."""
        return yaml.safe_dump(_plain(dataclasses.asdict(self)), sort_keys=False)

    def differences(self, wanted: TrainConfig) -> list[str]:
        """List the fields that differ and change what is learned, one phrase each."""
        mine, other = dataclasses.asdict(self), dataclasses.asdict(wanted)
        return [
            f"{name} is {mine[name]!r} there, {other[name]!r} here"
            for name in mine
            if mine[name] != other[name] and name not in _CHANGE_NOTHING
        ]

    def trained_samples(self, count: int) -> range:
        """Give the samples to train on, of a split of this many: `limit` of them after `skip`.

        Raises:
            UsageError: none is left.
        """
        if self.skip >= count:
            raise UsageError(
                f"--skip {self.skip} leaves nothing to train on: there are {count} samples"
            )
        end = count if self.limit is None else self.skip + self.limit
        return range(self.skip, min(end, count))


def _require_loss(name: str) -> None:
    """Check the name of a built-in loss; a user's is imported when it is used, not when it is read.

    Losses need torch, which reading the flags of `train` from these fields doesn't.
    """
    from logitbank.pipeline.losses import loss_class

    if not name.startswith("import:"):
        loss_class(name)


def _plain(value: Any) -> Any:
    """Turn tuples, also those inside, into lists: YAML has no other."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value
