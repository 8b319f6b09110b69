"""Images, their classes and what identifies them: every kind of dataset behind one protocol."""

from logitbank.pipeline.datasets.image_dataset import ImageDataset
from logitbank.pipeline.datasets.specs import has_split, open_dataset, weak_augmentation

__all__ = ["ImageDataset", "has_split", "open_dataset", "weak_augmentation"]
