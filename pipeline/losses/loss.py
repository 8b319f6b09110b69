"""The base class of losses: settings, what they need, and the terms of a batch."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import nn

from logitbank.pipeline.bounds import check_fields
from logitbank.pipeline.losses.logits import ViewLogits
from logitbank.pipeline.losses.mixed import are_mixed
from logitbank.pipeline.losses.published import Published
from logitbank.pipeline.losses.standardise import standardise
from logitbank.stores.encodings import Encoding
from logitbank.stores.errors import UsageError, unknown_name

Terms = dict[str, torch.Tensor]


@dataclass(frozen=True)
class LossInputs:
    """The inputs of a loss; see `Loss.__call__`."""

    student: ViewLogits
    teacher: ViewLogits | None
    targets: torch.Tensor
    epoch: int
    learned: nn.Module | None = None


@dataclass(frozen=True)
class Loss(ABC):
    """A loss: a frozen dataclass whose fields are its settings, called with a batch's logits.

    A subclass annotates each setting with its bounds (`pipeline.bounds`), and states what it needs
    in class variables:

    - `name`: its name for `--loss`; by default `import:MODULE:CLASS`.
    - `views`: how many views of each image it learns from: 1, or 2, a weak and a strong one. Each
      is a store of its own, of one teacher.
    - `needs_teacher`: whether it learns from a teacher's logits, rather than from labels alone.
    - `needs_one_label`: whether it treats the label differently from the other classes, so that
      mixed images can't be used.
    - `standardised`: whether what it distils is standardised logits (see `distilled`).
    - `own_correction`: the correction that it applies to raw logits, as published.
    - `published`: a table of its published settings; without one every setting needs a default.

    `refusal` says which stores it can't learn from.

    Raises:
        UsageError: a setting is out of bounds.
    """

    name: ClassVar[str] = ""
    views: ClassVar[int] = 1
    needs_teacher: ClassVar[bool] = True
    needs_one_label: ClassVar[bool] = False
    standardised: ClassVar[bool] = False
    own_correction: ClassVar[str | None] = None
    published: ClassVar[Published | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" not in vars(cls):
            cls.name = f"import:{cls.__module__}:{cls.__qualname__}"

    def __post_init__(self) -> None:
        check_fields(self)

    @abstractmethod
    def terms(self, inputs: LossInputs) -> Terms:
        """Compute the terms that a call returns."""

    def __call__(
        self,
        student: ViewLogits,
        teacher: ViewLogits | None,
        targets: torch.Tensor,
        epoch: int,
        learned: nn.Module | None = None,
    ) -> Terms:
        """Compute a batch's loss and the terms it is made of.

        Args:
            student: logits, (B, C) floating; half precision is computed in float32.
            teacher: logits of the same shapes; no gradient flows into them. None for a loss that
                learns from labels alone.
            targets: (B,) int64; or (B, C) floating, the class weights of mixed images.
            epoch: counted from 0; the published epoch is one more.
            learned: what `learned_module` built, on the logits' device.

        Returns:
            Scalars by name, the same names in all batches of an epoch: `loss`, the weighted sum to
            minimise; and, without their weights, `loss_ce` and, if it distils, `loss_kd`, besides
            terms of the loss's own.

        Raises:
            UsageError: logits that the loss needs are missing, or mixed targets where it needs one
                label for each image.
            ValueError: student and teacher differ in shape, or the learned module is missing.
        """
        if are_mixed(targets) and self.needs_one_label:
            raise UsageError(f"--loss {self.name} {_NEEDS_ONE_LABEL}")
        return self.terms(LossInputs(student, teacher, targets, epoch, learned))

    def learned_module(self) -> nn.Module | None:
        """Return the module that is trained besides the student, in its optimiser, if any."""
        return None

    def scaled(self, epochs: int, published_epochs: int) -> Self:
        """Return the loss for a run of another length than the published one.

        What lasts for some epochs takes the same share of a shorter run (see `share_of_run`).
        """
        del epochs, published_epochs
        return self

    def with_first_drop(self, epoch: int) -> Self:
        """Return the loss for a run whose learning rate first drops in this epoch, from 0."""
        del epoch
        return self

    def on_logits(self, correction: str | None) -> Self:
        """Return the loss for a teacher's logits with or without a correction.

        Args:
            correction: what was applied to the logits before the loss, None for raw ones.
        """
        del correction
        return self

    def with_settings(self, **changes: Any) -> Self:
        """Return the loss with some settings changed; numbers may be strings, as typed by a user.

        Raises:
            UsageError: a setting is unknown (the nearest is suggested) or out of bounds.
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise unknown_name(f"setting of {self.name}", name, known)
        try:
            return dataclasses.replace(self, **changes)
        except UsageError as error:
            raise UsageError(f"{self.name}: {error}") from error

    def refusal(self, encoding: Encoding, correction: str | None) -> str | None:
        """Return why the loss can't learn from a store's logits; None, as here, where it can.

        A run asks before its first step, a recipe before anything is computed.

        Args:
            encoding: the store's, with its `name` and its parameters.
            correction: what is made of the logits before the loss, None for raw ones.

        Returns:
            What is wrong and what to do, as it follows `--loss NAME` in an error.
        """
        del encoding, correction
        return None

    def refusal_of_mixed(self, augmentation: str) -> str | None:
        """Return why the loss can't learn from mixed views, None where it can.

        Args:
            augmentation: what makes the views, such as `cifar-weak+mixup`.

        Returns:
            As `refusal`.
        """
        if self.views == 2:
            return (
                f"learns from two views of each image, but {augmentation} mixes each with a "
                "different image: use views without MixUp and CutMix, or a loss of one view such "
                "as kd"
            )
        return _NEEDS_ONE_LABEL if self.needs_one_label else None

    def pairs(self, inputs: LossInputs) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return the student's and the teacher's logits of each view that the loss learns from.

        Raises:
            UsageError: some of them are missing.
            ValueError: they differ in shape.
        """
        student, teacher = inputs.student, inputs.teacher
        if teacher is None:
            raise UsageError(f"--loss {self.name} needs --soft-labels STORE or --teacher SPEC")
        pairs = [(student.weak, teacher.weak)]
        if self.views == 2:
            if student.strong is None or teacher.strong is None:
                raise UsageError(
                    f"--loss {self.name} learns from a weak and a strong view of each image: give "
                    "--soft-labels WEAK STRONG"
                )
            pairs.append((student.strong, teacher.strong))
        for own, other in pairs:
            if own.shape != other.shape:
                raise ValueError(
                    f"the student's logits are {tuple(own.shape)}, the teacher's "
                    f"{tuple(other.shape)}"
                )
        return pairs

    def distilled(self, logits: torch.Tensor) -> torch.Tensor:
        """Return logits as the distillation sees them: standardised, for some losses."""
        return standardise(logits) if self.standardised else logits


_NEEDS_ONE_LABEL = (
    "needs one label for each image, but mixed images have two labels: use a store without MixUp "
    "or CutMix, or --loss kd"
)


def share_of_run(of: int, epochs: int, published_epochs: int) -> int:
    """Return how many epochs of a run correspond to `of` published ones.

    In a shorter run they take the same share of it, rounded up to whole epochs; in a longer one
    they last as long as published.

    >>> share_of_run(20, 24, 240), share_of_run(20, 1, 240), share_of_run(20, 480, 240)
    (2, 1, 20)
    """
    return min(of, max(1, -(-of * epochs // published_epochs)))
