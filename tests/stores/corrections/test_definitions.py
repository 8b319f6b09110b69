"""sort and swap on stored codes equal the papers' definitions, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitbank.stores.corrections import CORRECTIONS, correction_named
from logitbank.stores.corrections.ranking import label_ranks, top_classes
from logitbank.stores.errors import UsageError
from tests.reference import corrections as plain

CASES = [
    pytest.param([5, 4, 3, 2, 1], 3, [4, 3, 2, 5, 1], [2, 4, 3, 5, 1], id="rank 4"),
    pytest.param([3, 1, 3, 0], 2, [3, 1, 3, 0], [3, 1, 3, 0], id="label ties for the maximum"),
    pytest.param([3, 3, 1, 0], 2, [3, 1, 3, 0], [1, 3, 3, 0], id="tie among others"),
    pytest.param(
        [0.0391, 0.0607, 0.041, 0.050, 0.0526],
        0,
        [0.0607, 0.0526, 0.0391, 0.041, 0.050],
        [0.0607, 0.0391, 0.041, 0.050, 0.0526],
        id="the figure's row",
    ),
    pytest.param([1, 2], 0, [2, 1], [2, 1], id="rank 2: sort is swap"),
    pytest.param([7, 7, 7], 1, [7, 7, 7], [7, 7, 7], id="all equal"),
]


def correct(name: str, logits: list[float], label: int, dtype: str, known: int) -> np.ndarray:
    exact = np.array([logits], np.float32)
    target = np.array([label], np.int32)
    top = top_classes(exact, target, known)
    codes = exact.astype(dtype)
    CORRECTIONS[name](codes, top, target)
    return codes[0]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("known", [1, 2, 3, None])
@pytest.mark.parametrize(("logits", "label", "sorted_row", "swapped_row"), CASES)
def test_the_papers_cases(logits, label, sorted_row, swapped_row, dtype, known):
    known = len(logits) if known is None else min(known, len(logits))
    np.testing.assert_array_equal(
        correct("sort", logits, label, dtype, known), np.array(sorted_row, dtype)
    )
    np.testing.assert_array_equal(
        correct("swap", logits, label, dtype, known), np.array(swapped_row, dtype)
    )


def test_where_codes_tie_the_stored_order_decides():
    codes = np.float32([[3, 3, 1, 0]])
    top = np.uint8([[1, 0, 2, 3]])
    CORRECTIONS["sort"](codes, top, np.int32([2]))
    assert codes.tolist() == [[1, 3, 3, 0]]
    assert top.tolist() == [[2, 1, 0, 3]]


# Few distinct values, so that ties, the two zeros and float16's rounding all come up.
VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1.0001, 1.00011, -2.5, 60000.0]),
    st.floats(-100, 100, width=32),
)


@st.composite
def rows(draw):
    classes = draw(st.integers(1, 12))
    logits = draw(st.lists(VALUES, min_size=classes, max_size=classes))
    label = draw(st.one_of(st.just(0), st.just(classes - 1), st.integers(0, classes - 1)))
    return logits, label, draw(st.integers(1, classes))


@given(rows(), st.sampled_from(["sort", "swap"]), st.sampled_from(["float32", "float16"]))
def test_any_row_equals_the_plain_definition(row, name, dtype):
    logits, label, known = row
    exact = np.array([logits], np.float32)
    target = np.array([label], np.int32)
    top = top_classes(exact, target, known)
    codes = exact.astype(dtype)
    order = plain.order_of_codes(codes[0].tolist(), top[0].tolist())
    wrong = top[0, 0] != label
    before, top_before = codes.copy(), top[0].tolist()
    CORRECTIONS[name](codes, top, target)

    bits = before[0].view(f"u{before.itemsize}").tolist()
    expected = getattr(plain, name)(bits, order, label) if wrong else bits
    assert codes[0].view(f"u{codes.itemsize}").tolist() == expected
    after = plain.top_after_sort if name == "sort" else plain.top_after_swap
    assert top[0].tolist() == (after(top_before, label) if wrong else top_before)
    assert codes[0, label] == codes[0].max()


@given(rows())
def test_top_is_the_true_order_with_a_winning_label_first(row):
    logits, label, known = row
    exact = np.array([logits], np.float32)
    top = top_classes(exact, np.array([label], np.int32), known)
    assert top[0].tolist() == plain.true_order(exact[0].tolist(), label)[:known]


@given(rows(), st.sampled_from(["float32", "float16"]))
def test_correcting_codes_equals_encoding_the_corrected_row(row, dtype):
    """With K = C the true order is known wherever rounding makes codes tie."""
    logits, label, _ = row
    exact = np.array([logits], np.float32)
    target = np.array([label], np.int32)
    for correction in CORRECTIONS.values():
        codes, codes_top = exact.astype(dtype), top_classes(exact, target, len(logits))
        first, first_top = exact.copy(), codes_top.copy()
        correction(codes, codes_top, target)
        correction(first, first_top, target)
        np.testing.assert_array_equal(codes, first.astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("classes", [17, 63, 64, 65, 129, 300, 1000])
@pytest.mark.parametrize("name", ["sort", "swap"])
def test_many_classes_with_the_label_anywhere(name, classes, dtype):
    """Ties, both zeros and both infinities among the rows, and labels far beyond `top`."""
    rng = np.random.default_rng(classes)
    logits = rng.normal(size=(64, classes)).astype(np.float32).round(1)
    logits[::3, :4] = [-0.0, 0.0, np.inf, -np.inf]
    target = rng.integers(0, classes, 64).astype(np.int32)
    if dtype == "uint8":
        logits = (logits.clip(-6, 6) * 20 + 128).round()
    top = top_classes(logits, target, 16)
    codes, known = logits.astype(dtype), top.copy()
    before = codes.copy()
    CORRECTIONS[name](codes, known, target)
    for row in range(64):
        order = plain.order_of_codes(before[row].tolist(), top[row].tolist())
        expected = before[row].tolist()
        if top[row, 0] != target[row]:
            expected = getattr(plain, name)(expected, order, target[row])
        assert codes[row].tobytes() == np.array(expected, dtype).tobytes()


def test_label_ranks_count_the_right_the_wrong_and_the_lost():
    top = np.uint8([[1, 0], [0, 1], [2, 3], [1, 0]])
    assert label_ranks(top, np.int32([1, 1, 0, 1])).tolist() == [2, 1, 1]


def test_an_unknown_correction_suggests_the_nearest():
    with pytest.raises(UsageError, match="unknown correction 'sortt': did you mean 'sort'"):
        correction_named("sortt")
