"""Images, their classes and what identifies them: every kind of dataset behind one protocol."""

from logitbank.pipeline.datasets.image_dataset import ImageDataset, require_two_classes
from logitbank.pipeline.datasets.specs import (
    absolute_spec,
    has_split,
    open_dataset,
    weak_augmentation,
)

__all__ = [
    "ImageDataset",
    "absolute_spec",
    "has_split",
    "open_dataset",
    "require_two_classes",
    "weak_augmentation",
]
