"""The kernels on any codes, in any memory, by any thread or process, and what they refuse."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitbank.stores.corrections import CORRECTIONS, BadRowError
from logitbank.stores.corrections.ranking import top_classes
from tests.reference import corrections as plain

NAMES = sorted(CORRECTIONS)
ROOT = Path(__file__).resolve().parents[3]
ROWS, CLASSES, KNOWN = 700, 40, 8


def rows_of(seed: int, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows with many ties, most of them wrong: codes, top and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(ROWS, CLASSES)).astype(np.float32).round(1)
    target = rng.integers(0, CLASSES, ROWS).astype(np.int32)
    codes = ((logits + 6) * 20).clip(0, 255) if dtype == "uint8" else logits
    return codes.astype(dtype), top_classes(logits, target, KNOWN), target


def corrected(name: str, rows, **options) -> tuple[np.ndarray, np.ndarray]:
    codes, top, target = (array.copy() for array in rows)
    CORRECTIONS[name](codes, top, target, **options)
    return codes, top


@pytest.mark.parametrize("name", NAMES)
@given(
    codes=st.lists(st.integers(0, 255), min_size=2, max_size=12),
    label=st.integers(0, 11),
    known=st.integers(1, 12),
)
def test_uint8_codes_are_corrected_by_the_true_order_of_top(name, codes, label, known):
    label %= len(codes)
    order = sorted(range(len(codes)), key=lambda c: (-codes[c], c))
    top = np.uint8([order[: min(known, len(codes))]])
    row, expected = np.uint8([codes]), codes
    if order[0] != label:
        expected = getattr(plain, name)(codes, order, label)
    CORRECTIONS[name](row, top, np.int32([label]))
    assert row[0].tolist() == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_threads_and_other_memory_change_nothing(name, dtype):
    rows = rows_of(1, dtype)
    codes, top = corrected(name, rows)
    for threads in (2, 3, 1000):
        again, top_again = corrected(name, rows, threads=threads)
        np.testing.assert_array_equal(again, codes)
        np.testing.assert_array_equal(top_again, top)
    before = tuple(array.copy() for array in rows)
    out = np.empty_like(rows[0]), np.empty_like(rows[1])
    CORRECTIONS[name](*rows, out=out)
    np.testing.assert_array_equal(out[0], codes)
    np.testing.assert_array_equal(out[1], top)
    for now, then in zip(rows, before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("is_right", [True, False])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_row_with_a_nan_is_refused_by_its_number(name, dtype, is_right, threads):
    codes, top, target = rows_of(2, dtype)
    bad = int(np.flatnonzero((top[:, 0] == target) == is_right)[-1])
    codes[bad, CLASSES - 1] = np.nan
    with pytest.raises(BadRowError, match=f"row {bad} has a NaN among its logits: it can't be"):
        CORRECTIONS[name](codes, top, target, threads=threads)


def test_infinity_is_a_number_and_is_moved():
    codes = np.float16([[np.inf, 1, -np.inf]])
    CORRECTIONS["swap"](codes, np.uint8([[0, 1, 2]]), np.int32([2]))
    assert codes.tolist() == [[-np.inf, 1, np.inf]]


@pytest.mark.parametrize(
    ("top", "label", "cause"),
    [
        ([5, 0], 1, "names a class in `top` that does not exist"),
        ([0, 1], 3, "has a label that is no"),
    ],
)
def test_classes_that_there_are_not_are_refused(top, label, cause):
    with pytest.raises(BadRowError, match=cause):
        CORRECTIONS["sort"](np.zeros((1, 3), np.float32), np.uint8([top]), np.int32([label]))


def test_memory_that_the_kernels_do_not_take_is_refused():
    codes, top, target = rows_of(3, "float32")
    with pytest.raises(ValueError, match="C-contiguous"):
        CORRECTIONS["sort"](np.asfortranarray(codes), top, target)
    with pytest.raises(ValueError, match="codes are float64"):
        CORRECTIONS["sort"](codes.astype(np.float64), top, target)
    with pytest.raises(ValueError, match="700 rows, 699 of top"):
        CORRECTIONS["sort"](codes, top[1:], target)


def test_new_memory_that_overlaps_the_old_is_refused():
    codes, top, target = rows_of(3, "float32")
    with pytest.raises(ValueError, match="out must not overlap"):
        CORRECTIONS["sort"](codes[1:], top[1:], target[1:], out=(codes[:-1], top[1:].copy()))


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_were_looked_at_before_are_looked_at_where_they_change(name):
    codes, top, target = rows_of(2, "float16")
    right, wrong = (
        int(np.flatnonzero((top[:, 0] == target) == is_right)[5]) for is_right in (1, 0)
    )
    codes[right, CLASSES - 1] = np.nan
    corrected(name, (codes, top, target), every_row=False)
    codes[wrong, CLASSES - 1] = np.nan
    with pytest.raises(BadRowError, match=f"row {wrong} has a NaN"):
        corrected(name, (codes, top, target), every_row=False)


COMPILED = """
import numpy as np
from logitbank.stores.corrections import CORRECTIONS, kernels
CORRECTIONS["sort"](np.float16([[1, 2]]), np.uint8([[1, 0]]), np.int32([0]))
print(sum(kernels._correct_rows.stats.cache_hits.values()))
"""


def test_kernels_are_compiled_once_and_kept_on_disk():
    for _ in range(2):
        run = subprocess.run([sys.executable, "-c", COMPILED], cwd=ROOT, capture_output=True)
    assert run.stdout == b"1\n", run.stderr


def test_a_forked_child_corrects_after_its_parent_did_by_threads():
    rows = rows_of(4, "float16")
    codes, _ = corrected("sort", rows, threads=2)
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        found = pool.starmap(corrected_in_threads, [("sort", rows)] * 4)
    for child_codes in found:
        np.testing.assert_array_equal(child_codes, codes)


def corrected_in_threads(name: str, rows) -> np.ndarray:
    return corrected(name, rows, threads=2)[0]


def test_two_callers_at_once_do_not_meet():
    seeds = range(8)
    alone = [corrected("sort", rows_of(seed, "float32"))[0] for seed in seeds]
    with ThreadPoolExecutor(4) as pool:
        work = [
            pool.submit(corrected_in_threads, "sort", rows_of(seed, "float32")) for seed in seeds
        ]
        for future, codes in zip(work, alone, strict=True):
            np.testing.assert_array_equal(future.result(), codes)
