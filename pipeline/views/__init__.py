"""Views: deterministic augmentations of images, drawn by address and rendered from what was drawn.

The stored parameters of a view are the contract: they alone say what its pixels are. What needs
torch is imported from its own module (`renderer`, `mismatch`), so that names, parameters and counts
of views can be had without it.
"""

from logitbank.pipeline.views.augmentation import Augmentation, check_views, parse_views
from logitbank.pipeline.views.center import Center
from logitbank.pipeline.views.cifar_weak import CifarWeak
from logitbank.pipeline.views.imagenet_weak import ImagenetWeak
from logitbank.pipeline.views.specs import augmentation_from, parse_augmentation
from logitbank.pipeline.views.stored import StoredViews

__all__ = [
    "Augmentation",
    "Center",
    "CifarWeak",
    "ImagenetWeak",
    "StoredViews",
    "augmentation_from",
    "check_views",
    "parse_augmentation",
    "parse_views",
]
