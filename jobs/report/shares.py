"""Shares and names that figures, tables and text use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from logitbank.jobs.report.results import Mistake
from logitbank.stores.manifest import Measured

MAX_CLASSES = 10


@dataclass(frozen=True)
class RankShare:
    """The number of wrong rows whose label has a rank (from 2), and their percentage of all.

    `name` is the rank, or `beyond K` for all ranks after the last one that a store keeps in order.
    """

    name: str
    rank: int
    rows: int
    percent: float


def rank_shares(measured: Measured) -> tuple[RankShare, ...]:
    """Count the wrong rows by the rank of their label, up to the last rank that occurs."""
    counts = measured.label_ranks
    wrong = sum(counts[1:])
    if not wrong:
        return ()
    known = len(counts) - 1
    last = max(place for place, rows in enumerate(counts) if rows)
    return tuple(
        RankShare(
            str(place + 1) if place < known else f"beyond {known}",
            place + 1,
            counts[place],
            100 * counts[place] / wrong,
        )
        for place in range(1, last + 1)
    )


def wrong_and_all(measured: Measured) -> tuple[int, int]:
    """Return the number of rows in which the teacher was wrong, and the number of all rows."""
    return sum(measured.label_ranks[1:]), sum(measured.label_ranks)


def shown_classes(mistake: Mistake) -> list[int]:
    """Return the classes to show of a distribution, at most ten, in ascending order.

    With more than ten classes, they are the label and the nine largest others of the raw row.
    """
    raw = next(iter(mistake.logits.values()))
    if len(raw) <= MAX_CLASSES:
        return list(range(len(raw)))
    order = np.argsort(-raw, kind="stable").tolist()
    others = [number for number in order if number != mistake.label]
    return sorted([mistake.label, *others[: MAX_CLASSES - 1]])


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Return the probabilities of (..., C) logits at a temperature."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def ordinal(number: int) -> str:
    """Return a rank as an ordinal number.

    >>> ordinal(2), ordinal(3), ordinal(11), ordinal(22)
    ('2nd', '3rd', '11th', '22nd')
    """
    endings = {1: "st", 2: "nd", 3: "rd"}
    ending = "th" if number % 100 in (11, 12, 13) else endings.get(number % 10, "th")
    return f"{number}{ending}"
