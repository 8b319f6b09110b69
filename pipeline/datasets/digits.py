"""Scikit-learn's handwritten digits, as small colour images: the dataset of the demo."""

from __future__ import annotations

import numpy as np

from logitbank.pipeline.datasets.in_memory import MemoryDataset

_ENLARGEMENT = 4
_TEST_EVERY = 5


def digits(split: str) -> MemoryDataset:
    """Build one split of scikit-learn's 1,797 digits of 8 x 8 pixels, as 32 x 32 RGB.

    A value v (0 to 16) becomes v * 255 // 16 in all three channels, each pixel a square of 4 x 4.
    Samples 4, 9, 14, ... of scikit-learn's order are the test split (359), the others the training
    split (1,438).
    """
    from sklearn.datasets import load_digits  # Slow to import, and only this dataset needs it.

    bundle = load_digits()
    values = bundle.images.astype(np.int64) * 255 // 16
    enlarged = values.repeat(_ENLARGEMENT, axis=1).repeat(_ENLARGEMENT, axis=2)
    images = np.repeat(enlarged[..., None], 3, axis=3).astype(np.uint8)
    is_test = np.arange(len(images)) % _TEST_EVERY == _TEST_EVERY - 1
    chosen = is_test if split == "test" else ~is_test
    names = tuple(str(name) for name in bundle.target_names)
    return MemoryDataset(
        "digits", split, images[chosen], bundle.target[chosen], names, f"digits {split}"
    )
