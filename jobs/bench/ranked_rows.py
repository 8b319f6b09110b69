"""Random rows of logits whose labels rank as in a real teacher's rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.corrections.ranking import top_classes
from logitbank.stores.layout import TOP_CLASSES

LOGIT_STD = 2.0

# EfficientNet-Lite0 on 1,000 ImageNet photos, 4 random resized crops of each: the number of labels
# whose rank lies in each interval between these (0 is right). For 100 classes, only the logits of
# the label's own hundred classes are ranked, as an ImageNet-100 would have them.
_RANKS = np.array([0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768])
_COUNTS = {
    100: (3332, 321, 105, 55, 56, 30, 29, 18, 20, 15, 13, 4, 2, 0, 0, 0, 0, 0, 0),
    1000: (2979, 352, 130, 72, 95, 66, 74, 43, 46, 28, 34, 20, 19, 9, 10, 9, 9, 3, 2),
}


@dataclass(frozen=True)
class RankedRows:
    """(B, C) float32 logits, (B, K) `top`, (B,) labels."""

    logits: NDArray[np.float32]
    top: NDArray[Any]
    target: NDArray[np.int32]

    @classmethod
    def draw(cls, rows: int, classes: int, seed: int = 0) -> RankedRows:
        """Draw normal logits, and labels by the ranks measured at the nearest number of classes."""
        rng = np.random.default_rng(seed)
        logits = rng.standard_normal((rows, classes), np.float32) * np.float32(LOGIT_STD)
        nearest = min(_COUNTS, key=lambda known: abs(known - classes))
        counts = np.array(_COUNTS[nearest])
        found = rng.choice(len(counts), rows, p=counts / counts.sum())
        ranks = np.minimum(rng.integers(_RANKS[found], _RANKS[found + 1]), classes - 1)
        target = np.array(
            [
                np.argpartition(row, -1 - rank)[-1 - rank]
                for row, rank in zip(logits, ranks.tolist(), strict=True)
            ],
            np.int32,
        )
        return cls(logits, top_classes(logits, target, min(TOP_CLASSES, classes)), target)

    @property
    def wrong(self) -> float:
        """The share of rows whose label is not first."""
        return float((self.top[:, 0] != self.target).mean())
