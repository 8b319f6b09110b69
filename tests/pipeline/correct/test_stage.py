"""The correction stage: a corrected store is its parent, corrected row by row."""

from __future__ import annotations

import numpy as np
import pytest

from logitbank.pipeline.correct import CorrectionTask, corrected_manifest, wrong_rows
from logitbank.pipeline.store_task import fill_store
from logitbank.stores.errors import StoreError, UsageError
from logitbank.stores.reader import Store
from logitbank.stores.verify import verify_store
from tests.reference import corrections as plain
from tests.stores.store_examples import VIEWS, target, write_store


@pytest.fixture
def raw(tmp_path) -> Store:
    write_store(tmp_path / "raw.zarr")
    return Store.open(tmp_path / "raw.zarr")


def correct(raw: Store, name: str, out) -> Store:
    fill_store(CorrectionTask.of(raw, name, str(out)))
    return Store.open(out)


@pytest.mark.parametrize("name", ["sort", "swap"])
def test_each_row_is_corrected_as_the_paper_says_and_the_rest_is_the_parents(raw, tmp_path, name):
    corrected = correct(raw, name, tmp_path / "out.zarr")
    for view in range(VIEWS):
        before, after = raw.read_view("logits", view), corrected.read_view("logits", view)
        top = raw.read_view("top", view)
        for row, label in enumerate(target()):
            order = plain.order_of_codes(before[row].tolist(), top[row].tolist())
            wrong = order[0] != label
            expected = getattr(plain, name)(before[row], order, label) if wrong else before[row]
            np.testing.assert_array_equal(after[row], expected)
        for array in ("view_params", "pixel_crc"):
            np.testing.assert_array_equal(
                corrected.read_view(array, view), raw.read_view(array, view)
            )
    np.testing.assert_array_equal(corrected.target, raw.target)
    np.testing.assert_array_equal(corrected.sample_id, raw.sample_id)


def test_every_row_is_right_afterwards_and_the_parent_is_named(raw, tmp_path):
    manifest = correct(raw, "sort", tmp_path / "out.zarr").manifest
    assert wrong_rows(raw.manifest.measured) == (26, 30)
    assert wrong_rows(manifest.measured) == (0, 30)
    assert manifest.measured.top1 == 100
    assert manifest.correction is not None
    assert manifest.correction.parent_digest == raw.manifest.digest


def test_two_runs_give_one_digest_and_a_damaged_chunk_is_mended(raw, tmp_path):
    first = correct(raw, "swap", tmp_path / "one.zarr").manifest.digest
    assert correct(raw, "swap", tmp_path / "two.zarr").manifest.digest == first
    (tmp_path / "two.zarr/logits/c/1/1/0").write_bytes(b"")
    assert correct(raw, "swap", tmp_path / "two.zarr").manifest.digest == first
    assert verify_store(tmp_path / "two.zarr") == []


def test_a_bad_chunk_of_the_parent_stops_the_job_and_leaves_no_complete_store(raw, tmp_path):
    path = tmp_path / "raw.zarr/logits/c/2/0/0"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(StoreError, match="raw.zarr: chunk logits/c/2/0/0 is damaged"):
        correct(raw, "sort", tmp_path / "out.zarr")
    with pytest.raises(StoreError, match="is incomplete"):
        Store.open(tmp_path / "out.zarr")


def test_a_corrected_store_is_not_corrected_again(raw, tmp_path):
    corrected = correct(raw, "sort", tmp_path / "out.zarr")
    with pytest.raises(UsageError, match="is corrected by sort already"):
        corrected_manifest(corrected, "swap")
