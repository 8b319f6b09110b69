"""The targets of views: classes, or for mixed views the weight of each class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from logitbank.pipeline.losses import mixed_targets
from logitbank.pipeline.views import Augmentation, Mixed

Labels = Callable[[NDArray[np.int64]], NDArray[np.int32]]
"""Returns the labels of some samples."""


@dataclass(frozen=True)
class ViewTargets:
    """The labels of B views on a device.

    `own` are (B,) int64; mixed views also have `partner`, (B,) int64, and `share`, the own image's,
    (B,) float32.
    """

    own: torch.Tensor
    classes: int
    partner: torch.Tensor | None = None
    share: torch.Tensor | None = None

    @classmethod
    def of(
        cls,
        augmentation: Augmentation,
        labels: Labels,
        samples: NDArray[np.int64],
        params: NDArray[Any],
        classes: int,
        device: str | torch.device = "cpu",
    ) -> ViewTargets:
        """Return the targets of some views.

        Args:
            augmentation: how they were drawn.
            labels: returns the labels of some samples.
            samples: (B,) which images.
            params: (B, P) numbers of their views.
            classes: C, how many there are.
            device: where the labels are wanted.
        """

        def on_device(of: NDArray[np.int64]) -> torch.Tensor:
            return torch.from_numpy(labels(of).astype(np.int64)).to(device)

        if not isinstance(augmentation, Mixed):
            return cls(on_device(samples), classes)
        parts = augmentation.split(params)
        share = augmentation.mix.shares(parts.drawn, augmentation.size).astype(np.float32)
        own, partner = on_device(samples), on_device(parts.partner)
        return cls(own, classes, partner, torch.from_numpy(share).to(device))

    def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the targets of some of the views, as losses take them.

        Args:
            rows: int64 places on the device.

        Returns:
            (rows,) int64 classes, or (rows, C) float32 class weights.
        """
        own = self.own.index_select(0, rows)
        if self.partner is None or self.share is None:
            return own
        partner, share = (each.index_select(0, rows) for each in (self.partner, self.share))
        return mixed_targets(own, partner, share, self.classes)
