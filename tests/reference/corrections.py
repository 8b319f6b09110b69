"""The corrections as published, slow and plain: maps of one row, its values and their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def true_order(logits: Sequence[float], label: int) -> list[int]:
    """Order classes by value descending, class ascending; a label at the maximum comes first."""
    order = sorted(range(len(logits)), key=lambda c: (-logits[c], c))
    if logits[label] == max(logits):
        order.remove(label)
        order.insert(0, label)
    return order


def order_of_codes(codes: Sequence[float], top: Sequence[int]) -> list[int]:
    """Order the classes of a stored row: `top`, then code descending, class ascending."""
    rest = [c for c in range(len(codes)) if c not in set(top)]
    return [*top, *sorted(rest, key=lambda c: (-codes[c], c))]


def sort(values: Sequence[Any], order: Sequence[int], label: int) -> list[Any]:
    """SortKD's `sort`: the label takes the largest value, those above it the next one down."""
    descending = [values[c] for c in order]
    moved = [label, *(c for c in order if c != label)]
    out = list(values)
    for c, value in zip(moved, descending, strict=True):
        out[c] = value
    return out


def swap(values: Sequence[Any], order: Sequence[int], label: int) -> list[Any]:
    """SLD's swap: the label and the largest class exchange their values."""
    out = list(values)
    out[label], out[order[0]] = values[order[0]], values[label]
    return out


def top_after_sort(top: Sequence[int], label: int) -> list[int]:
    """The label, then the old `top` without it, cut to its length."""
    return [label, *(c for c in top if c != label)][: len(top)]


def top_after_swap(top: Sequence[int], label: int) -> list[int]:
    """The label and `top[0]` change places, or the label replaces it."""
    return [label if c == top[0] else top[0] if c == label else c for c in top]
