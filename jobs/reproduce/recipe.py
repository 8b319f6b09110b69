"""Recipes: how one teacher teaches one student, validated before any work."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from logitbank.pipeline.bounds import (
    Count,
    Expected,
    Fraction,
    NonNegative,
    Positive,
    check_fields,
)
from logitbank.pipeline.losses import SLD, DatasetKind, Loss, published_loss
from logitbank.pipeline.models.loading import ModelSpec
from logitbank.pipeline.models.zoo.cifar import CIFAR_NETWORKS
from logitbank.pipeline.student.config import LossSetting
from logitbank.pipeline.student.schedule import scaled_milestones
from logitbank.pipeline.views import Mixed, parse_augmentation
from logitbank.stores.corrections.registry import correction_named
from logitbank.stores.encodings import DEFAULT_ENCODING, encoding_named
from logitbank.stores.errors import UsageError, unknown_name

UNCORRECTED = "none"

DATASETS = {
    "cifar100": DatasetKind.CIFAR,
    "cifar10": DatasetKind.CIFAR,
    "digits": DatasetKind.CIFAR,
    "imagenet": DatasetKind.IMAGENET,
}
"""The datasets of recipes, and whose published settings their losses start from."""

Percentage = Annotated[float, Field(gt=0, le=100), Expected("a percentage above 0, at most 100")]


@dataclass(frozen=True)
class TeacherTraining:
    """How to train a teacher from labels if none is given; `limit` None uses all images.

    `apart` separates the images of teacher and students: the teacher learns from the last `limit`
    ones and the students from the others, so that it errs on them as it would on new images.

    Raises:
        UsageError: a value is invalid.
    """

    epochs: Count
    batch_size: Count
    lr: Positive
    limit: Count | None = None
    apart: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.apart and self.limit is None:
            raise UsageError("apart needs a limit, or no image is left for the students")


@dataclass(frozen=True)
class PublishedFigure:
    """A published top-1 of the best epoch, in percent, and the name of the method in its source.

    Raises:
        UsageError: the figure is not a percentage.
    """

    top1: Percentage
    source: str = ""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Recipe:
    """One teacher, one student and one method, with the published settings.

    `dataset` is the one that settings and `published` are of. `weak` and `strong` are the
    augmentations, `strong` only for a loss that learns from two views; `views` V is how many views
    of each are cached. `milestones` are the published epochs after which the rate drops tenfold.
    Each of `corrections` makes a row of results; `none` takes the logits as they are. `published`
    is the top-1 of the best epoch in percent, with the logits as the method uses them, None if it
    is not known; `published_corrected` holds figures with other corrections of the logits, by name.
    `teacher` may name weights, and `teacher_training` says how to train them.

    Raises:
        UsageError: a value is invalid.
    """

    dataset: str
    teacher: str
    student: str
    loss: str
    weak: str
    views: Count
    epochs: Count
    batch_size: Count
    lr: Positive
    milestones: tuple[int, ...]
    weight_decay: NonNegative
    momentum: Fraction = 0.9
    strong: str | None = None
    corrections: tuple[str, ...] = (UNCORRECTED, "sort", "swap")
    loss_settings: dict[str, LossSetting] = field(default_factory=dict)
    published: Percentage | None = None
    published_corrected: dict[str, PublishedFigure] = field(default_factory=dict)
    teacher_training: TeacherTraining | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.dataset not in DATASETS:
            raise UsageError(
                f"{unknown_name('dataset', self.dataset, DATASETS)}: for your own dataset, name "
                "the one whose published settings the loss should start from"
            )
        if list(self.milestones) != sorted({*self.milestones}) or not all(
            0 < drop < self.epochs for drop in self.milestones
        ):
            raise UsageError(
                f"milestones are epochs in order, above 0 and below {self.epochs}, not "
                f"{list(self.milestones)}"
            )
        _require_models(self.teacher, self.student)
        _require_corrections(self.corrections)
        self._require_other_corrections()
        needs_strong = self._own_loss.views == 2
        if needs_strong != (self.strong is not None):
            needed = "a weak and a strong view: set" if needs_strong else "one view: leave out"
            raise UsageError(f"{self.loss} learns from {needed} `strong`")
        if not self.needs_soft_labels and self.corrections != (UNCORRECTED,):
            raise UsageError(
                f"{self.loss} learns from labels alone, so that there are no logits to correct: "
                f"set `corrections: [{UNCORRECTED}]`"
            )
        self._require_accepted()
        for augmentation in filter(None, (self.weak, self.strong)):
            # Mixed views need the number of samples to draw partners from; any will do here.
            if isinstance(parse_augmentation(augmentation, samples=1), Mixed):
                self._require_mixable(augmentation)

    @property
    def own_correction(self) -> str:
        """The correction that is part of the method, and so of its published figures."""
        return self._own_loss.own_correction or UNCORRECTED

    @property
    def tabled_corrections(self) -> tuple[str, ...]:
        """The corrections to make rows of, each once; `none` means the method's own correction."""
        own = self.own_correction
        return tuple(
            dict.fromkeys(own if each == UNCORRECTED else each for each in self.corrections)
        )

    @property
    def needs_soft_labels(self) -> bool:
        """Whether the student learns from a teacher; `ce` only uses the views of the store."""
        return self._own_loss.needs_teacher

    def _require_other_corrections(self) -> None:
        """Refuse figures of unknown corrections and of the loss's own."""
        for name in self.published_corrected:
            if name == self.own_correction:
                raise UsageError(
                    f"published_corrected: {name} is the correction that {self.loss} itself uses: "
                    "write its figure as `published`"
                )
            correction_named(name)

    def _require_accepted(self) -> None:
        """Refuse a loss that can't learn from the stores that it would be given."""
        for correction in self.tabled_corrections if self.needs_soft_labels else ():
            made = None if correction == UNCORRECTED else correction
            reason = self._own_loss.refusal(encoding_named(DEFAULT_ENCODING), made)
            if reason is not None:
                raise UsageError(f"corrections: {correction}: --loss {self.loss} {reason}")

    def _require_mixable(self, augmentation: str) -> None:
        """Refuse mixed views where something needs one label, or the two views of one image."""
        reason = self._own_loss.refusal_of_mixed(augmentation)
        if reason is not None:
            raise UsageError(f"--loss {self.loss} {reason}")
        if self.corrections != (UNCORRECTED,):
            raise UsageError(
                f"{augmentation} makes views with two labels, but a correction puts one first: set "
                f"`corrections: [{UNCORRECTED}]`"
            )

    @property
    def _own_loss(self) -> Loss:
        return self.loss_of_run(self.epochs)

    def loss_of_run(self, epochs: int) -> Loss:
        """Return the loss with its settings for a run of this many epochs.

        Settings that the recipe leaves out are those published for such a dataset and pair.
        Settings in epochs, the warm-up and γ, scale with the number of epochs.

        Raises:
            UsageError: the loss or a setting is unknown, or a value is invalid.
        """
        drops = (*self.milestones, self.epochs)
        loss = published_loss(
            self.loss,
            DATASETS[self.dataset],
            teacher=self.teacher,
            student=self.student,
            first_drop=drops[0],
        ).with_settings(**self.loss_settings)
        follows_first_drop = loss.with_first_drop(drops[0]) == loss
        loss = loss.scaled(epochs, self.epochs)
        (first_drop,) = scaled_milestones((drops[0], self.epochs), epochs)
        if follows_first_drop:
            return loss.with_first_drop(first_drop)
        if isinstance(loss, SLD):
            gamma = scaled_milestones((loss.gamma, self.epochs), epochs)[0]
            return dataclasses.replace(loss, gamma=gamma)
        return loss


def _require_models(teacher: str, student: str) -> None:
    """Check that the models exist, as far as is known without building them."""
    for spec in map(ModelSpec.parse, (teacher, student)):
        if spec.kind == "cifar" and spec.name not in CIFAR_NETWORKS:
            raise unknown_name("CIFAR network", spec.name, CIFAR_NETWORKS)
    if "@" in student:
        raise UsageError(f"student {student} has weights already: name only the network")


def _require_corrections(corrections: tuple[str, ...]) -> None:
    if not corrections or len({*corrections}) != len(corrections):
        raise UsageError(f"corrections must be one or more, each once, not {list(corrections)}")
    for name in corrections:
        if name != UNCORRECTED:
            correction_named(name)
