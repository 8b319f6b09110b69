"""Views by their definitions: one sample at a time, plain and slow.

What is drawn is computed word by word with whole numbers; what is rendered is computed from a row
of `view_params` alone, given the name and parameters of the augmentation as a manifest has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

MASK = 0xFFFFFFFF
CIFAR_WEAK, IMAGENET_WEAK = 1, 2


def philox4x32(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """Philox-4x32-10 of one counter, as the paper writes it."""
    c, k = list(counter), list(key)
    for _ in range(10):
        product0, product1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [
            (product1 >> 32) ^ c[1] ^ k[0],
            product1 & MASK,
            (product0 >> 32) ^ c[3] ^ k[1],
            product0 & MASK,
        ]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def words(seed: int, sample: int, view: int, purpose: int, count: int) -> list[int]:
    """`count` words of one sample: blocks 0, 1, ... of its counter."""
    key = (seed & MASK, seed >> 32)
    blocks = (
        philox4x32((sample, view, block, purpose), key) for block in range(math.ceil(count / 4))
    )
    return [word for block in blocks for word in block][:count]


def cifar_weak_params(seed: int, sample: int, view: int, pad: int, flip: bool) -> list[int]:
    """dy, dx, flip of one view: the view-th outcome in the order of the sample's words."""
    offsets = 2 * pad + 1
    outcomes = [
        (dy, dx, flipped)
        for flipped in range(1 + flip)
        for dy in range(offsets)
        for dx in range(offsets)
    ]
    drawn = words(seed, sample, 0, CIFAR_WEAK, len(outcomes))
    order = sorted(range(len(outcomes)), key=drawn.__getitem__)  # sorted is stable
    return list(outcomes[order[view]])


def imagenet_weak_params(
    seed: int, sample: int, view: int, height: int, width: int, flip: bool
) -> list[int]:
    """top, left, height, width, flip, on the words of `imagenet-weak`."""
    drawn = words(seed, sample, view, IMAGENET_WEAK, 23)
    return [*imagenet_weak_box(drawn, height, width), (drawn[22] >> 31) * flip]


def imagenet_weak_box(drawn: Sequence[int], height: int, width: int) -> list[int]:
    """top, left, height, width: RandomResizedCrop.get_params of torchvision, on our words."""
    for attempt in range(10):
        area, ratio = (drawn[2 * attempt + each] / 2**32 for each in (0, 1))
        target_area = height * width * (0.08 + 0.92 * area)
        aspect = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * ratio)
        w = round(math.sqrt(target_area * aspect))
        h = round(math.sqrt(target_area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = drawn[20] * (height - h + 1) >> 32
            left = drawn[21] * (width - w + 1) >> 32
            return [top, left, h, w]
    h, w = height, width
    if width / height < 3 / 4:
        h = round(width / (3 / 4))
    elif width / height > 4 / 3:
        w = round(height * (4 / 3))
    return [(height - h) // 2, (width - w) // 2, h, w]


def render(
    name: str, parameters: Mapping[str, Any], image: np.ndarray, params: Sequence[int]
) -> np.ndarray:
    """Render a view from what a store says: the name, the parameters and one row of numbers."""
    return {"cifar-weak": _cifar_weak, "imagenet-weak": _imagenet_weak, "center": _center}[name](
        parameters, image, [int(each) for each in params]
    )


def _cifar_weak(parameters: Mapping[str, Any], image: np.ndarray, params: list[int]) -> np.ndarray:
    size, pad = parameters["size"], parameters["pad"]
    dy, dx, flip = params
    view = np.zeros((size, size, 3), np.uint8)
    for y in range(size):
        for x in range(size):
            source_y = y + dy - pad
            source_x = (size - 1 - x if flip else x) + dx - pad
            if 0 <= source_y < size and 0 <= source_x < size:
                view[y, x] = image[source_y, source_x]
    return view


def _imagenet_weak(
    parameters: Mapping[str, Any], image: np.ndarray, params: list[int]
) -> np.ndarray:
    top, left, height, width, flip = params
    size, kernel = parameters["size"], Image.Resampling[parameters["interpolation"].upper()]
    box = Image.fromarray(image).crop((left, top, left + width, top + height))
    view = np.asarray(box.resize((size, size), kernel))
    return view[:, ::-1] if flip else view


def _center(parameters: Mapping[str, Any], image: np.ndarray, params: list[int]) -> np.ndarray:
    height, width, top, left = params
    size, kernel = parameters["size"], Image.Resampling[parameters["interpolation"].upper()]
    resized = Image.fromarray(image).resize((width, height), kernel)
    return np.asarray(resized.crop((left, top, left + size, top + size)))
