"""Views: deterministic augmentations of images, drawn by address and rendered from what was drawn.

The stored parameters of a view are the contract: they alone say what its pixels are.
"""

from logitbank.pipeline.views.augmentation import check_views, parse_views
from logitbank.pipeline.views.augmentations.center import Center
from logitbank.pipeline.views.augmentations.cifar_strong import CifarStrong
from logitbank.pipeline.views.augmentations.cifar_weak import CifarWeak
from logitbank.pipeline.views.augmentations.cutmix import CutMix
from logitbank.pipeline.views.augmentations.imagenet_strong import ImagenetStrong
from logitbank.pipeline.views.augmentations.imagenet_weak import ImagenetWeak
from logitbank.pipeline.views.augmentations.mixed import Augmentation, Mixed, main_labels
from logitbank.pipeline.views.augmentations.mixup import MixUp
from logitbank.pipeline.views.mismatch import check_pixels, explain_mismatch
from logitbank.pipeline.views.rendering.renderer import ViewRenderer, pixel_crc
from logitbank.pipeline.views.specs import augmentation_from, parse_augmentation
from logitbank.pipeline.views.stored import StoredViews, kind_of

__all__ = [
    "Augmentation",
    "Center",
    "CifarStrong",
    "CifarWeak",
    "CutMix",
    "ImagenetStrong",
    "ImagenetWeak",
    "MixUp",
    "Mixed",
    "StoredViews",
    "ViewRenderer",
    "augmentation_from",
    "check_pixels",
    "check_views",
    "explain_mismatch",
    "kind_of",
    "main_labels",
    "parse_augmentation",
    "parse_views",
    "pixel_crc",
]
