"""RandAugment's operations and Cutout: what is drawn, in which units, what it does to pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps
from scipy import stats

from logitbank.pipeline.views.augmentations.cutout import COLOUR, draw_boxes, paint_box
from logitbank.pipeline.views.augmentations.rand_augment import (
    OPERATIONS,
    apply_operations,
    draw_operations,
)
from logitbank.pipeline.views.draws import Stream, words
from logitbank.stores.errors import PixelError
from tests.reference import strong_views as reference

WORDS = st.integers(0, 2**32 - 1)
NUMBER = {operation.name: number for number, operation in enumerate(OPERATIONS)}
FACTOR, SHIFT = 2**14, 2**16
TEN_THOUSAND = np.arange(10_000)


def random_image(seed: int = 0, height: int = 13, width: int = 13) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def operated(name: str, image: np.ndarray, magnitude: int = 0) -> np.ndarray:
    drawn = np.array([NUMBER[name], magnitude], np.int16)
    return np.asarray(apply_operations(Image.fromarray(image), drawn))


# ---- what is drawn


def test_operations_keep_their_numbers_units_and_ranges():
    assert [(each.name, each.low, each.high, each.units) for each in OPERATIONS] == [
        ("auto_contrast", 0, 0, 1),
        ("brightness", 820, 15564, 16384),
        ("color", 820, 15564, 16384),
        ("contrast", 820, 15564, 16384),
        ("equalize", 0, 0, 1),
        ("identity", 0, 0, 1),
        ("posterize", 4, 7, 1),
        ("rotate", -30720, 30720, 1024),
        ("sharpness", 820, 15564, 16384),
        ("shear_x", -19660, 19660, 65536),
        ("shear_y", -19660, 19660, 65536),
        ("solarize", 1, 256, 1),
        ("translate_x", -19660, 19660, 65536),
        ("translate_y", -19660, 19660, 65536),
    ]


@given(st.lists(WORDS, min_size=2, max_size=8).filter(lambda drawn: len(drawn) % 2 == 0))
def test_an_operation_is_drawn_by_its_definition(random):
    expected = []
    for place in range(0, len(random), 2):
        expected += reference.operation_params(*random[place : place + 2])
    assert draw_operations(np.array([random], np.uint32))[0].tolist() == expected


@pytest.mark.parametrize("number", range(len(OPERATIONS)))
def test_both_ends_of_a_range_are_drawn(number):
    word = -(-(number << 32) // len(OPERATIONS))
    ends = draw_operations(np.array([[word, 0], [word, 2**32 - 1]], np.uint32))
    operation = OPERATIONS[number]
    assert ends.tolist() == [[number, operation.low], [number, operation.high]]


def test_operations_are_even_with_replacement_and_their_magnitudes_even_in_their_range():
    drawn = draw_operations(words(0, TEN_THOUSAND, 0, Stream.CIFAR_STRONG, 4))
    pairs = drawn[:, 0] * 14 + drawn[:, 2]
    assert stats.chisquare(np.bincount(pairs, minlength=14**2)).pvalue > 1e-3
    for number, operation in enumerate(OPERATIONS):
        magnitudes = drawn[:, 1][drawn[:, 0] == number]
        span = operation.high - operation.low + 1
        if span == 1:
            assert not magnitudes.any()
            continue
        # In each eighth of the range, or for each of posterize's four.
        parts = (magnitudes - operation.low) * min(span, 8) // span
        assert stats.chisquare(np.bincount(parts, minlength=min(span, 8))).pvalue > 1e-3


# ---- what the operations do


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(OPERATIONS),
    st.floats(0, 1),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
def test_an_operation_is_what_the_released_code_calls_pillow_for(seed, operation, place, sides):
    image = random_image(seed, *sides)
    magnitude = operation.low + round(place * (operation.high - operation.low))
    name, *_, units = reference.OPERATIONS[NUMBER[operation.name]]
    expected = reference.operate(name, Image.fromarray(image), magnitude / units)
    assert np.array_equal(operated(operation.name, image, magnitude), expected)


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(0, 255), st.integers(0, 255)),
    st.tuples(st.integers(1, 64), st.integers(1, 64)),
    st.integers(1, 256),
)
def test_tables_are_pillows_for_any_range_and_number_of_levels(seed, ends, sides, levels):
    """Narrow and flat channels too, few levels, and images of too few pixels to be evened out."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(min(ends), max(ends) + 1, (levels, 3), np.uint8)
    image = chosen[rng.integers(0, levels, (*sides, 3)) ** 2 // levels, np.arange(3)]
    pillows = Image.fromarray(image)
    assert np.array_equal(operated("auto_contrast", image), ImageOps.autocontrast(pillows))
    assert np.array_equal(operated("equalize", image), ImageOps.equalize(pillows))
    for bits in range(4, 8):
        assert np.array_equal(operated("posterize", image, bits), ImageOps.posterize(pillows, bits))
    assert np.array_equal(operated("solarize", image, levels), ImageOps.solarize(pillows, levels))


@given(st.integers(820, 15564), st.integers(0, 255))
def test_a_blend_is_the_exact_one_rounded_down(factor, grey):
    """In whole numbers: so no compiler's way of adding and multiplying can change a pixel."""
    levels = np.arange(256, dtype=np.int64)
    image = np.zeros((1, 256, 3), np.uint8)
    image[0] = levels[:, None]
    assert np.array_equal(operated("brightness", image, factor)[0, :, 0], levels * factor >> 14)
    # One pixel of another grey, so that the mean is not the middle's.
    image[0, 0] = grey
    mean = int(image[0, :, 0].mean() + 0.5)
    expected = ((mean << 14) + (image[0, :, 0].astype(np.int64) - mean) * factor) >> 14
    assert np.array_equal(operated("contrast", image, factor)[0, :, 0], expected)


def test_colours_are_drained():
    image = np.array([[[255, 0, 0], [80, 80, 80]]], np.uint8)
    grey = 255 * 19595 + 0x8000 >> 16  # Pillow's L: 0.299 of red, in whole numbers.
    found = operated("color", image, FACTOR // 4)
    assert found[0, 0].tolist() == [grey + (255 - grey) // 4, grey - -(-grey // 4), grey * 3 // 4]
    assert found[0, 1].tolist() == [80, 80, 80]


@pytest.mark.parametrize("bits", [4, 5, 6, 7])
def test_posterize_keeps_the_highest_bits(bits):
    image = random_image()
    assert np.array_equal(operated("posterize", image, bits), image & (0xFF00 >> bits & 0xFF))


@pytest.mark.parametrize("threshold", [1, 100, 255, 256])
def test_solarize_inverts_from_its_threshold_on(threshold):
    image = random_image()
    expected = np.where(image.astype(int) < threshold, image, 255 - image)
    assert np.array_equal(operated("solarize", image, threshold), expected)


def test_a_real_threshold_of_solarize_is_the_next_whole_one():
    image = random_image()
    for threshold in (99.01, 99.5, 100.0):
        found = reference.operate("Solarize", Image.fromarray(image), threshold)
        assert np.array_equal(found, operated("solarize", image, 100))


def test_translations_shift_to_the_left_and_up_and_leave_black():
    image = random_image(height=16, width=16)
    quarter = SHIFT // 4
    right = operated("translate_x", image, quarter)
    assert np.array_equal(right[:, :12], image[:, 4:])
    assert not right[:, 12:].any()
    down = operated("translate_y", image, -quarter)
    assert np.array_equal(down[4:], image[:12])
    assert not down[:4].any()


@given(st.integers(-19660, 19660), st.booleans())
def test_a_shear_takes_the_nearest_pixel_in_whole_numbers(by, is_vertical):
    image = random_image(height=16, width=16)
    name = "shear_y" if is_vertical else "shear_x"
    source = image.transpose(1, 0, 2) if is_vertical else image
    expected = np.zeros_like(source)
    for y in range(16):
        for x in range(16):
            # In halves of 2**-16: the middle of the pixel, moved by the middle of its row.
            from_x = (2 * x + 1) * SHIFT + by * (2 * y + 1) >> 17
            if 0 <= from_x < 16:
                expected[y, x] = source[y, from_x]
    found = operated(name, image, by)
    assert np.array_equal(found.transpose(1, 0, 2) if is_vertical else found, expected)


def test_the_other_operations_on_images_where_they_are_plain():
    image = random_image()
    assert np.array_equal(operated("identity", image), image)
    assert np.array_equal(operated("rotate", image, 0), image)
    assert not np.array_equal(operated("rotate", image, 30720), image)
    narrow = np.linspace(100, 151, 52, dtype=np.uint8).reshape(4, 13, 1).repeat(3, 2)
    assert np.array_equal(operated("auto_contrast", narrow), (narrow - 100) * 5)
    flat = np.full((4, 4, 3), 77, np.uint8)
    for name in ("auto_contrast", "equalize"):
        assert np.array_equal(operated(name, flat), flat)
    for name in ("sharpness", "contrast", "color"):
        assert np.array_equal(operated(name, flat, FACTOR // 2), flat)
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    assert np.array_equal(operated("equalize", levels), levels)


def test_operations_follow_one_another():
    image, drawn = random_image(), np.array([NUMBER["posterize"], 4, NUMBER["solarize"], 128])
    twice = operated("solarize", operated("posterize", image, 4), 128)
    assert np.array_equal(apply_operations(Image.fromarray(image), drawn), twice)
    other = operated("posterize", operated("solarize", image, 128), 4)
    assert not np.array_equal(twice, other)
    nothing = apply_operations(Image.fromarray(image), np.empty(0, np.int16))
    assert np.array_equal(nothing, image)


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        ([14, 0], "operation 14 is not one of RandAugment's: 0 to 13"),
        ([-1, 0], "operation -1 is not one"),
        ([5, 0, 6, 8], "magnitude 8 of posterize is outside what is drawn: 4 to 7"),
        ([1, 819], "magnitude 819 of brightness is outside what is drawn: 820 to 15564"),
        ([0, 1], "magnitude 1 of auto_contrast"),
    ],
)
def test_what_is_never_drawn_is_refused(drawn, message):
    with pytest.raises(PixelError, match=message):
        apply_operations(Image.fromarray(random_image()), np.array(drawn))


# ---- Cutout


@given(WORDS, WORDS, WORDS, st.sampled_from([1, 2, 7, 32, 224, 4096]))
def test_a_box_is_drawn_by_its_definition_and_within_the_view(side, row, column, size):
    found = draw_boxes(np.array([[side, row, column]], np.uint32), size)[0].tolist()
    assert found == reference.cutout_params(side, row, column, size)
    top, left, height, width = found
    assert 1 <= height <= size - top
    assert 1 <= width <= size - left
    assert max(height, width) <= size // 2 + 1


@given(WORDS, WORDS, WORDS)
def test_a_painted_box_is_the_rectangle_of_the_released_code(side_word, row_word, column_word):
    """With its real numbers, which Pillow rounds down, and its ends, which Pillow includes."""
    image, size = random_image(height=32, width=32), 32
    side, row, column = (word / 2**32 * size for word in (side_word / 2, row_word, column_word))
    left, top = (int(max(0, centre - side / 2)) for centre in (column, row))
    released = Image.fromarray(image)
    corners = (left, top, min(size, left + side), min(size, top + side))
    ImageDraw.Draw(released).rectangle(corners, COLOUR)
    painted = image.copy()
    paint_box(painted, draw_boxes(np.array([[side_word, row_word, column_word]]), size)[0])
    assert np.array_equal(painted, released)


def test_sides_are_even_up_to_half_and_centres_even_over_the_view():
    random = words(0, TEN_THOUSAND, 0, Stream.IMAGENET_STRONG, 3)
    boxes = draw_boxes(random, 224)
    away = boxes[(boxes[:, :2] + boxes[:, 2:] < 224).all(axis=1)]
    assert np.array_equal(away[:, 2], away[:, 3])
    sides = boxes[:, 2:].max(axis=1)
    # The longer one is cut off only where both are, which one in some sixty is.
    assert abs(np.quantile(sides, 0.5) - 57) < 2
    assert sides.max() == 112
    middles = (random[:, 1:].astype(float) / 2**32) * 224
    assert stats.kstest(middles[:, 0] / 224, "uniform").pvalue > 1e-3
    inner = (boxes[:, 0] > 0) & (boxes[:, 0] + boxes[:, 2] < 224)
    drift = boxes[inner, 0] + boxes[inner, 2] / 2 - middles[inner, 0]
    assert abs(drift).max() <= 1.5


@pytest.mark.parametrize(
    "box", [(-1, 0, 2, 2), (0, 7, 2, 2), (7, 0, 2, 2), (0, 0, 9, 2), (0, 0, 0, 2), (0, 0, 2, -1)]
)
def test_a_box_outside_the_view_is_refused(box):
    view = random_image(height=8, width=8)
    before = view.copy()
    with pytest.raises(PixelError, match="is not in a view of 8 x 8"):
        paint_box(view, np.array(box))
    assert np.array_equal(view, before)
