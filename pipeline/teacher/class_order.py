"""Whether a teacher numbers its classes as the dataset does.

Folders sorted differently than when the teacher was trained give every class another number: the
teacher then seems wrong nearly everywhere, and a correction would spoil what it knows. The sign of
it is that teacher and labels agree after a permutation of the classes, and only then.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from logitbank.pipeline.teacher.settings import ACCEPT, CLASS_ORDER
from logitbank.stores.errors import LogitbankError

Permutation = dict[int, int]
"""Label → the class that the teacher predicts for it."""

# Networks of random weights on ten classes agree with a third of such images at most, and a quarter
# once there are hundreds of them (docs/decisions.md).
AGREEMENT = 0.4
TIMES_AS_OFTEN = 3
STANDARD_ERRORS = 4
SHOWN = 6


def require_class_order(
    teacher: str, names: Sequence[str], labels: NDArray[np.int32], predicted: NDArray[np.int64]
) -> None:
    """Check that top classes and labels don't agree only after a permutation of the classes.

    The permutation is fitted on one half of each class's images and tried on the other half, so
    that chance is not enough.

    Args:
        teacher: its spec, for the message.
        names: of the C classes.
        labels: (M,) of some images.
        predicted: (M,) the teacher's top classes.

    Raises:
        LogitbankError: two fifths or more of the images that the permutation concerns agree after
            it, and three times as many as before it; the message shows the permutation.
    """
    half = _halves(labels)
    counted = np.zeros(3, np.int64)
    for fitted in (half, ~half):
        moves = _moves(fitted_permutation(labels[fitted], predicted[fitted]))
        counted += _agreement(moves, labels[~fitted], predicted[~fitted])
    concerned, moved, kept = counted.tolist()
    if moved < AGREEMENT * concerned or moved < TIMES_AS_OFTEN * kept:
        return
    if moved - kept <= STANDARD_ERRORS * np.sqrt(moved + kept):
        return
    moves = _moves(fitted_permutation(labels, predicted))
    raise LogitbankError(
        f"{teacher} numbers the classes differently from the dataset: of {concerned:,} images of "
        f"{len(moves)} classes its top class is the label in {kept:,}, and in {moved:,} after this "
        f"permutation: {_described(moves, names)}: order the dataset's classes as the teacher was "
        f"trained with them, or use {ACCEPT} {CLASS_ORDER} if this is intended"
    )


def fitted_permutation(labels: NDArray[np.int32], predicted: NDArray[np.int64]) -> Permutation:
    """Match labels with predicted classes one to one, the most frequent pairs first.

    >>> fitted_permutation(np.int32([0, 0, 1, 1, 2]), np.int64([1, 1, 0, 2, 2]))
    {0: 1, 1: 0, 2: 2}
    """
    pairs, counts = np.unique(np.stack([labels, predicted], axis=1), axis=0, return_counts=True)
    matched: Permutation = {}
    taken: set[int] = set()
    for label, top in pairs[np.argsort(-counts, kind="stable")].tolist():
        if label not in matched and top not in taken:
            matched[label] = top
            taken.add(top)
    return matched


def _halves(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return a mask of every other image of each class."""
    order = np.argsort(labels, kind="stable")
    first = np.searchsorted(labels[order], labels[order])
    chosen = np.empty(len(labels), bool)
    chosen[order] = (np.arange(len(labels)) - first) % 2 == 0
    return chosen


def _moves(permutation: Permutation) -> Permutation:
    return {label: top for label, top in permutation.items() if label != top}


def _agreement(
    moves: Permutation, labels: NDArray[np.int32], predicted: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Count the images that moved classes concern, and those that agree moved and as they are.

    An image is concerned by its label or by its top class, whichever are more: a teacher that gives
    one class to everything agrees with few of those.
    """
    moved = np.array([moves.get(int(label), -1) for label in labels], np.int64)
    is_label, is_top = moved >= 0, np.isin(predicted, list(moves.values()))
    return np.array(
        [
            max(is_label.sum(), is_top.sum()),
            (predicted == moved).sum(),
            ((predicted == labels) & (is_label | is_top)).sum(),
        ],
        np.int64,
    )


def _described(moves: Permutation, names: Sequence[str]) -> str:
    """Describe the first moves of a permutation."""
    shown = [
        f"label {label} ({names[label]}) is the teacher's class {top}"
        for label, top in sorted(moves.items())[:SHOWN]
    ]
    more = len(moves) - SHOWN
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
