"""Strong views by their definitions: one at a time, in fractions, and rendered by plain Pillow.

What is drawn follows the released code of that line of work, its real numbers taken as exact
fractions of our words; what is rendered is computed from a row of `view_params` alone, given the
name and parameters of the augmentation as a manifest has them, as docs/store-format.md says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from tests.reference import views

CIFAR_STRONG, IMAGENET_STRONG = 3, 4
COLOUR = (125, 123, 114)
FACTOR = (Fraction(5, 100), Fraction(95, 100), 2**14)
ANGLE = (-30, 30, 2**10)
SHIFT = (Fraction(-3, 10), Fraction(3, 10), 2**16)
NONE = (0, 0, 1)
# Of each operation: its range, and how many units make 1.
OPERATIONS = [
    ("AutoContrast", *NONE),
    ("Brightness", *FACTOR),
    ("Color", *FACTOR),
    ("Contrast", *FACTOR),
    ("Equalize", *NONE),
    ("Identity", *NONE),
    ("Posterize", 4, 7, 1),
    ("Rotate", *ANGLE),
    ("Sharpness", *FACTOR),
    ("ShearX", *SHIFT),
    ("ShearY", *SHIFT),
    ("Solarize", 1, 256, 1),
    ("TranslateX", *SHIFT),
    ("TranslateY", *SHIFT),
]


def operation_params(word: int, magnitude_word: int) -> list[int]:
    """An operation's number and its magnitude, even over the whole units within its range."""
    number = word * len(OPERATIONS) >> 32
    _, lowest, highest, units = OPERATIONS[number]
    first, last = math.ceil(lowest * units), math.floor(highest * units)
    return [number, first + (magnitude_word * (last - first + 1) >> 32)]


def cutout_params(side_word: int, row_word: int, column_word: int, size: int) -> list[int]:
    """top, left, height, width of the pixels that the released code paints over."""
    side = Fraction(side_word, 2**33) * size
    spans = []
    for word in (row_word, column_word):
        start = int(max(0, Fraction(word, 2**32) * size - side / 2))
        end = min(size, start + side)  # A rectangle of Pillow's paints this pixel too.
        spans.append((start, min(size - 1, int(end)) - start + 1))
    (top, height), (left, width) = spans
    return [top, left, height, width]


def distortion_params(words: Sequence[int], size: int, operations: int, cutout: bool) -> list[int]:
    """The columns behind a crop's, from the words behind a crop's."""
    drawn = []
    for place in range(operations):
        drawn += operation_params(*words[3 + 2 * place : 5 + 2 * place])
    return drawn + (cutout_params(*words[:3], size) if cutout else [])


def cifar_strong_params(
    parameters: Mapping[str, Any], seed: int, sample: int, view: int
) -> list[int]:
    """dy, dx, flip, then the distortion's columns."""
    size, operations = parameters["size"], parameters["operations"]
    words = views.words(seed, sample, view, CIFAR_STRONG, 6 + 2 * operations)
    offsets = 2 * parameters["pad"] + 1
    crop = [words[0] * offsets >> 32, words[1] * offsets >> 32, (words[2] >> 31)]
    crop[2] *= parameters["flip"]
    return crop + distortion_params(words[3:], size, operations, parameters["cutout"])


def imagenet_strong_params(
    parameters: Mapping[str, Any], seed: int, sample: int, view: int, sides: tuple[int, int]
) -> list[int]:
    """The box and flip that the same words give `imagenet-weak`, then the distortion's columns."""
    size, operations = parameters["size"], parameters["operations"]
    words = views.words(seed, sample, view, IMAGENET_STRONG, 26 + 2 * operations)
    crop = views.imagenet_weak_box(words, *sides)
    crop.append((words[22] >> 31) * parameters["flip"])
    return crop + distortion_params(words[23:], size, operations, parameters["cutout"])


def render(
    name: str, parameters: Mapping[str, Any], image: np.ndarray, params: Sequence[int]
) -> np.ndarray:
    """Render a strong view from what a store says."""
    weak, count = {"cifar-strong": ("cifar-weak", 3), "imagenet-strong": ("imagenet-weak", 5)}[name]
    numbers = [int(each) for each in params]
    view = Image.fromarray(views.render(weak, parameters, image, numbers[:count]))
    for place in range(parameters["operations"]):
        number, magnitude = numbers[count + 2 * place : count + 2 * place + 2]
        operation, *_, units = OPERATIONS[number]
        view = operate(operation, view, magnitude / units)
    if parameters["cutout"]:
        top, left, height, width = numbers[-4:]
        corners = (left, top, left + width - 1, top + height - 1)
        ImageDraw.Draw(view).rectangle(corners, COLOUR)
    return np.asarray(view)


def operate(operation: str, image: Image.Image, magnitude: float) -> Image.Image:
    """One operation at a real magnitude, as the released code calls Pillow."""
    if operation in ("Brightness", "Color", "Contrast", "Sharpness"):
        return getattr(ImageEnhance, operation)(image).enhance(magnitude)
    width, height = image.size
    matrices = {
        "ShearX": (1, magnitude, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, magnitude, 1, 0),
        "TranslateX": (1, 0, magnitude * width, 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, magnitude * height),
    }
    if operation in matrices:
        return image.transform(image.size, Image.Transform.AFFINE, matrices[operation])
    return {
        "AutoContrast": lambda: ImageOps.autocontrast(image),
        "Equalize": lambda: ImageOps.equalize(image),
        "Identity": lambda: image,
        "Posterize": lambda: ImageOps.posterize(image, int(magnitude)),
        "Rotate": lambda: image.rotate(magnitude),
        "Solarize": lambda: ImageOps.solarize(image, magnitude),
    }[operation]()
