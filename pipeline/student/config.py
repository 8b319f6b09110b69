"""The configuration of a training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import yaml
from pydantic import Field

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
from logitbank.stores.importing import IMPORT

LossSetting = Annotated[
    bool | int | float | str | tuple[float, ...],
    Expected("a number, a list of numbers, true, false or text"),
]

Threads = Annotated[int, Field(ge=1, le=4096)]
Workers = Annotated[int, Field(ge=0, le=4096)]

SCHEDULES = ("step", "cosine")
VERIFY_PIXELS = ("all", "sample", "off")
# Fields that change no weight; stores are compared by their digests.
_WITHOUT_EFFECT = ("workers", "verify_pixels", "teacher_correction")


def flag(
    text: str,
    *,
    metavar: str | None = None,
    const: str | None = None,
    published: bool = False,
    train_alone: bool = False,
) -> dict[str, Any]:
    """Return the metadata that describes the flag of a `TrainConfig` field.

    Args:
        text: its help.
        metavar: the value's name in the help.
        const: the value of the flag when given without one.
        published: whether the default is the one published for the dataset at hand.
        train_alone: whether only `train` has the flag, not `train-teacher`, which learns from
            labels.
    """
    return {
        "help": text,
        "metavar": metavar,
        "const": const,
        "published": published,
        "train_alone": train_alone,
    }


@dataclass(frozen=True)
class TrainConfig:
    """A run's configuration, as its `config.yaml` holds it; names are timm's where it has them.

    `student`, `dataset`, `soft_labels`, `correction`, `teacher` and `eval_dataset` are specs and
    paths as the user gave them; of two stores the first holds weak views, the second strong ones.
    What is None is filled by `resolution.resolved`: the loss by what there is to learn from, its
    settings and the epochs of the learning rate's drops (from 0, the first epoch trained at the
    lower rate) as published, the device by what the machine has. `loss_settings` are those of the
    loss that have no field of their own, by the names in `pipeline.losses`. `teacher_correction` is
    derived, not requested: the correction that the logits had when the loss took them, None for raw
    ones. `strong_augmentation` is drawn where strong views don't come from a store. `threads` None
    takes torch's own number. `amp` is mixed precision, on CUDA alone. `torchcompile` names the
    backend of torch.compile. A step's gradient is the mean of those of `grad_accum_steps` batches.
    Of the split's samples the first `skip` are left out, and `limit` of the others are trained on.
    Defaults of the schedule are CIFAR-100's; `train` takes those published for the dataset.

    Raises:
        UsageError: an invalid value.
    """

    student: str = field(metadata=flag("the model to train", metavar="SPEC", train_alone=True))
    dataset: str = ""
    soft_labels: tuple[str, ...] = field(
        default=(),
        metadata=flag(
            "raw or corrected; for a loss that learns from both, one of weak views, then one of "
            "strong ones",
            metavar="STORE",
            train_alone=True,
        ),
    )
    correction: str | None = field(
        default=None,
        metadata=flag("correct a raw store while reading", metavar="NAME", train_alone=True),
    )
    teacher: str | None = field(
        default=None,
        metadata=flag("run this teacher in the loop instead", metavar="SPEC", train_alone=True),
    )
    teacher_correction: str | None = None
    strong_augmentation: str | None = field(
        default=None,
        metadata=flag(
            "strong views for a teacher in the loop (cifar-strong, imagenet-strong)",
            metavar="NAME",
            train_alone=True,
        ),
    )
    eval_dataset: str | None = field(
        default=None, metadata=flag("the dataset whose test split is evaluated on", metavar="SPEC")
    )
    loss: str | None = field(
        default=None,
        metadata=flag(
            "ce, kd, dkd, ctkd, mlkd, sld or sld-kd; on standardised logits lskd, dkd+ls, ctkd+ls "
            "or mlkd+ls; or your own, import:MODULE:CLASS (kd where there is something to distil); "
            "mlkd and sld learn from two stores",
            metavar="NAME",
            train_alone=True,
        ),
    )
    temperature: Positive | None = field(
        default=None, metadata=flag("temperature of the loss (as published)", train_alone=True)
    )
    ce_weight: NonNegative | None = field(
        default=None, metadata=flag("weight of the labels (as published)", train_alone=True)
    )
    kd_weight: NonNegative | None = field(
        default=None, metadata=flag("weight of the soft labels (as published)", train_alone=True)
    )
    loss_settings: dict[str, LossSetting] = field(default_factory=dict)
    epochs: Count = field(default=240, metadata=flag("passes over the images", published=True))
    batch_size: Count = field(default=64, metadata=flag("images per batch", published=True))
    grad_accum_steps: Count = field(default=1, metadata=flag("batches per step", metavar="N"))
    lr: Positive = field(default=0.05, metadata=flag("learning rate", published=True))
    momentum: Fraction = field(default=0.9, metadata=flag("momentum of SGD"))
    weight_decay: NonNegative = field(default=5e-4, metadata=flag("of SGD", published=True))
    sched: str = field(default="step", metadata=flag("step or cosine, by epoch"))
    warmup_epochs: NonNegativeInt = field(
        default=0, metadata=flag("epochs of a rising rate", metavar="N")
    )
    milestones: tuple[NonNegativeInt, ...] | None = field(
        default=None,
        metadata=flag(
            "epochs, from 0, that begin with a tenth of the rate (as published, scaled)",
            metavar="EPOCH",
        ),
    )
    model_ema: bool = field(
        default=False, metadata=flag("average the weights as well, into ema.pt")
    )
    model_ema_decay: Fraction = field(
        default=0.9998, metadata=flag("decay of that average", metavar="D")
    )
    seed: Seed = field(default=0, metadata=flag("seed of weights, order and views"))
    limit: Count | None = field(
        default=None, metadata=flag("train on the first N samples alone", metavar="N")
    )
    skip: NonNegativeInt = field(
        default=0, metadata=flag("leave the first N samples out", metavar="N")
    )
    amp: bool = field(default=False, metadata=flag("mixed precision, on CUDA"))
    channels_last: bool = field(default=False, metadata=flag("channels-last memory format"))
    torchcompile: str | None = field(
        default=None,
        metadata=flag(
            "compile the network by torch.compile (inductor where no backend is named)",
            metavar="BACKEND",
            const="inductor",
        ),
    )
    device: str | None = field(
        default=None, metadata=flag("cpu or cuda[:N] (CUDA where there is one)")
    )
    threads: Threads | None = field(default=None, metadata=flag("of torch, on the CPU"))
    workers: Workers = field(default=2, metadata=flag("processes that render image files"))
    verify_pixels: str = field(
        default="all", metadata=flag("pixels to check: all, sample or off", train_alone=True)
    )

    def __post_init__(self) -> None:
        check_fields(self)
        milestones = self.milestones or ()
        if list(milestones) != sorted(milestones):
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
            LogitbankError: it is not a configuration; the message begins with `where`.
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
        """Return the configuration as plain YAML, in the order of the fields."""
        return yaml.safe_dump(_plain(dataclasses.asdict(self)), sort_keys=False)

    def differences(self, wanted: TrainConfig) -> list[str]:
        """Return the fields that differ and change what is learned, one phrase each."""
        mine, other = dataclasses.asdict(self), dataclasses.asdict(wanted)
        return [
            f"{name} is {mine[name]!r} there, {other[name]!r} here"
            for name in mine
            if mine[name] != other[name] and name not in _WITHOUT_EFFECT
        ]

    def trained_samples(self, count: int) -> range:
        """Return the samples to train on, out of `count`: `limit` of them after `skip`.

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

    if not name.startswith(IMPORT):
        loss_class(name)


def _plain(value: Any) -> Any:
    """Convert tuples, also nested ones, to lists: YAML has no tuples."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value
