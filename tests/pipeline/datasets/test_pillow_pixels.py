"""Pixels that Pillow would clip to white are refused, whoever opens the image."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from logitbank.pipeline.datasets.folders import imagefolder
from logitbank.pipeline.datasets.imported import MapStyleDataset
from logitbank.stores.errors import DatasetError

GREY = np.linspace(0, 255, 12).astype(np.uint8)[None].repeat(8, 0)
WORDS = GREY.astype(np.uint16) * 257
DEEP = {
    "16bit.png": WORDS,
    "16bit.tif": WORDS,
    "big-endian.tif": WORDS.astype(">u2"),
    "32bit.tif": WORDS.astype(np.int32),
    "float.tif": GREY.astype(np.float32) / 255,
    "16bit.pgm": WORDS,
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_grey_is_refused_with_the_way_to_8_bits(tmp_path, name):
    path = tmp_path / "a" / name
    path.parent.mkdir()
    Image.fromarray(DEEP[name]).save(path)
    with pytest.raises(DatasetError, match="what is white isn't known: convert it to 8") as refused:
        imagefolder(tmp_path, "train").pixels(0)
    assert str(refused.value).startswith(f"{path}: ")
    with Image.open(path) as image:
        with pytest.raises(DatasetError, match="sample 0 of the dataset: .*convert it to 8 bits"):
            MapStyleDataset([(image, 0)]).pixels(0)
        # The way out that the message names.
        white = 1.0 if image.mode == "F" else 65535
        (tmp_path / "b").mkdir()
        deep = np.asarray(image)
        Image.fromarray((deep * (255.0 / white)).astype("uint8")).save(tmp_path / "b" / "8bit.png")
    pixels = imagefolder(tmp_path, "train").pixels(1)
    assert np.abs(pixels.astype(int) - GREY[..., None]).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_8_bits_of_any_mode_are_pillows_rgb(mode):
    image = Image.fromarray(GREY).convert("RGB").convert(mode if mode != "PA" else "P")
    image = image.convert("PA") if mode == "PA" else image
    pixels = MapStyleDataset([(image, 0)]).pixels(0)
    assert np.array_equal(pixels, np.asarray(image.convert("RGB")))


def test_an_item_that_pillow_cant_read_is_named():
    image = Image.new("RGB", (3, 3))
    image.close()
    with pytest.raises(DatasetError, match="sample 0 of the dataset: can't be read as an image: "):
        MapStyleDataset([(image, 0)]).pixels(0)
