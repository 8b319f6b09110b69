"""Batches of logits to try losses on."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

Batch = tuple[list[NDArray], NDArray]


def batches(
    count: int, *, largest: float = 30, min_classes: int = 2, distinct: bool = False
) -> st.SearchStrategy[Batch]:
    """`count` arrays of (B, C) float64 logits, and labels; `distinct`: no two equal in a row."""
    values = st.floats(-largest, largest, width=32)

    def of(shape: tuple[int, int]) -> st.SearchStrategy[Batch]:
        logits = npst.arrays(np.float64, shape, elements=values)
        if distinct:
            rows = st.lists(st.permutations(range(shape[1])), min_size=shape[0], max_size=shape[0])
            logits = rows.map(lambda ranks: 1.5 * np.array(ranks, np.float64) - 3)
        labels = npst.arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1))
        return st.tuples(st.lists(logits, min_size=count, max_size=count), labels)

    return st.tuples(st.integers(1, 5), st.integers(min_classes, 8)).flatmap(of)


def random_batch(count: int, rows: int = 4, classes: int = 6, seed: int = 0) -> list[torch.Tensor]:
    """`count` (B, C) float64 logits, then (B,) labels."""
    generator = torch.Generator().manual_seed(seed)
    logits = [
        3 * torch.randn(rows, classes, dtype=torch.float64, generator=generator)
        for _ in range(count)
    ]
    return [*logits, torch.randint(classes, (rows,), generator=generator)]


EXTREMES = {
    "far apart, the label last": ([[1e4, -1e4, 0.0]], [[-1e4, 1e4, 0.0]], [1]),
    "both sure of the label": ([[1e4, -1e4, -1e4]], [[1e4, -1e4, -1e4]], [0]),
    "the teacher sure of another": ([[1e4, -1e4, -1e4]], [[-1e4, 1e4, -1e4]], [2]),
    "one class": ([[1e4], [0.0]], [[-1e4], [3.0]], [0, 0]),
    "all equal": (
        [[1e4, 1e4, 1e4], [0.1, 0.1, 0.1]],
        [[-1e4, -1e4, -1e4], [0.0, 0.0, 0.0]],
        [0, 2],
    ),
}
"""Student's logits, teacher's, labels."""


def extreme(name: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    student, teacher, labels = EXTREMES[name]
    return (
        torch.tensor(student, dtype=dtype, requires_grad=True),
        torch.tensor(teacher, dtype=dtype),
        torch.tensor(labels),
    )
