"""`BASE+mixup` and `BASE+cutmix`: views of two images each, under any augmentation of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from logitbank.pipeline.views.augmentation import ImageAugmentation
from logitbank.pipeline.views.augmentations.beta_table import MAX_ALPHA, MIN_ALPHA
from logitbank.pipeline.views.augmentations.cutmix import CutMix
from logitbank.pipeline.views.augmentations.mixup import MixUp
from logitbank.pipeline.views.draws import integers, words
from logitbank.stores.errors import PixelError, UsageError
from logitbank.stores.manifest import PARTNER

MAX_PARTNERS = 2**31 - 1


@dataclass(frozen=True)
class MixedParams:
    """The numbers of B mixed views, split: (B,) partners, and (B, P) columns of each part.

    `own` and `other` are what the base augmentation drew for the image and for its partner, `drawn`
    is how the two are mixed.
    """

    partner: NDArray[Any]
    own: NDArray[Any]
    other: NDArray[Any]
    drawn: NDArray[Any]


@dataclass(frozen=True)
class Mixed:
    """Mix each image's view under `base` with that of another image, its partner.

    The partner is drawn evenly from the first `partners` samples, which are all of the store (see
    docs/decisions.md); it may be the image itself, as in both papers, whose pairs are independent
    or shuffled. It appears in the very view that it has itself: what `base` draws for (seed,
    partner, view). The views of a base with a limited number, such as the 162 of `cifar-weak`, come
    again after the last one, with other partners: the number of mixed views is unlimited.

    Raises:
        UsageError: a parameter out of range.
    """

    base: ImageAugmentation
    mix: MixUp | CutMix
    partners: int
    dtype: ClassVar[Literal["int16", "int32"]] = "int32"
    count: ClassVar[None] = None

    def __post_init__(self) -> None:
        alpha, samples = self.mix.alpha, self.partners
        is_number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
        if not is_number or not MIN_ALPHA <= alpha <= MAX_ALPHA:
            raise UsageError(
                f"alpha of {self.name} is {alpha!r}: expected a number from {MIN_ALPHA:g} to "
                f"{MAX_ALPHA:g}"
            )
        is_whole = isinstance(samples, int) and not isinstance(samples, bool)
        if not is_whole or not 1 <= samples <= MAX_PARTNERS:
            raise UsageError(
                f"partners of {self.name} is {samples!r}: expected the number of samples of the "
                "dataset, which is filled in where it is left out"
            )

    @property
    def name(self) -> str:
        """Such as `cifar-weak+mixup`."""
        return f"{self.base.name}+{self.mix.name}"

    @property
    def size(self) -> int:
        """The side of a view."""
        return self.base.size

    @property
    def columns(self) -> tuple[str, ...]:
        """partner; the base's columns; these again, of the partner; how the two are mixed."""
        base = self.base.columns
        return (PARTNER, *base, *(f"{PARTNER}_{name}" for name in base), *self.mix.columns)

    @property
    def parameters(self) -> dict[str, bool | int | float | str]:
        """The base's parameters, then alpha and partners."""
        alpha = float(self.mix.alpha)
        return {**self.base.parameters, "alpha": alpha, "partners": self.partners}

    def base_view(self, view: int) -> int:
        """Return the number of the base's view that view `view` mixes."""
        return view if self.base.count is None else view % self.base.count

    def draw_mix(
        self, seed: int, samples: ArrayLike, view: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw what needs no image: the (B,) partners, and the (B, P) numbers of the mix."""
        random = words(seed, samples, view, self.mix.stream, 1 + self.mix.words)
        partners = integers(random[:, 0], self.partners)
        return partners, self.mix.draw(random[:, 1:], self.size)

    def joined(self, parts: MixedParams) -> NDArray[np.int32]:
        """Join the numbers of views in the order of `columns`: (B, P) int32."""
        columns = [parts.partner[:, None], parts.own, parts.other, parts.drawn]
        return np.concatenate(columns, axis=1).astype(np.int32)

    def split(self, params: NDArray[Any]) -> MixedParams:
        """Split the (B, P) numbers of views into their parts.

        Raises:
            PixelError: numbers that can't have been drawn; the base's are checked as it renders.
        """
        count = len(self.base.columns)
        partner, own, other, drawn = np.split(params, [1, 1 + count, 1 + 2 * count], axis=1)
        wrong = partner[(partner < 0) | (partner >= self.partners)]
        if len(wrong):
            raise PixelError(
                f"{self.name}: partner {wrong[0]} is not one of the {self.partners} samples"
            )
        self.mix.require_drawn(drawn, self.size)
        return MixedParams(partner[:, 0].astype(np.int64), own, other, drawn)

    def shares(self, params: NDArray[Any]) -> NDArray[np.float64]:
        """Return λ, the own image's share of each view, 0 to 1: (B,); raises as `split`."""
        return self.mix.shares(self.split(params).drawn, self.size)


Augmentation = ImageAugmentation | Mixed
"""Any augmentation, whose views show one image or two."""


def partners_of(augmentation: Augmentation, params: NDArray[Any]) -> NDArray[np.int64] | None:
    """Return the (B,) samples that views are mixed with, None where they aren't mixed.

    Raises:
        PixelError: numbers that can't have been drawn.
    """
    return augmentation.split(params).partner if isinstance(augmentation, Mixed) else None


def main_labels(
    augmentation: Augmentation,
    target: NDArray[np.int32],
    samples: NDArray[np.int64],
    params: NDArray[Any],
) -> NDArray[np.int32]:
    """Return the label of each view: of a mixed one that of the larger share, its own at a tie.

    Args:
        augmentation: how the views were drawn.
        target: (N,) labels of the dataset.
        samples: (B,) which images.
        params: (B, P) numbers of their views.

    Returns:
        (B,) labels.

    Raises:
        PixelError: numbers that can't have been drawn.
    """
    if not isinstance(augmentation, Mixed):
        return target[samples]
    parts = augmentation.split(params)
    is_own = augmentation.mix.shares(parts.drawn, augmentation.size) >= 0.5
    return np.where(is_own, target[samples], target[parts.partner])
