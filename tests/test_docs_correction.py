"""The file of docs/your-own-correction.md works as the page says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from logitbank import LogitbankError, SoftLabels, register_correction
from logitbank.pipeline.correct import (
    CorrectionTask,
    row_corrector,
    write_virtual_store,
)
from logitbank.pipeline.store_task import fill_store
from logitbank.stores.corrections import CORRECTIONS, BadRowError, correction_named
from logitbank.stores.errors import UsageError
from logitbank.stores.reader import Store
from logitbank.stores.summary import summarise, summary_lines
from tests.stores.store_examples import VIEWS, logits_of, manifest, target, write_store

PAGE = Path(__file__).resolve().parents[1] / "docs/your-own-correction.md"
NAME = "import:label_revision:label-revision"
TEMPERATURE, ETA = 4, 0.8


@pytest.fixture
def _page_file(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "label_revision.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("label_revision", None)
    CORRECTIONS.pop("label-revision", None)


pytestmark = pytest.mark.usefixtures("_page_file")


def plain_revision(row: np.ndarray, label: int) -> np.ndarray:
    """The probabilities that the paper asks for."""
    p = np.exp(row.astype(float) / TEMPERATURE)
    p /= p.sum()
    beta = ETA / (max(p) - p[label] + 1)
    return np.array([beta * p[c] + (1 - beta) * (c == label) for c in range(len(p))])


def softmax(row: np.ndarray) -> np.ndarray:
    p = np.exp(row.astype(float) / TEMPERATURE)
    return p / p.sum()


@pytest.mark.parametrize(("encoding", "tolerance"), [("float32", 1e-6), ("float16", 1e-3)])
def test_a_corrected_store_holds_the_papers_probabilities(tmp_path, encoding, tolerance):
    write_store(tmp_path / "raw.zarr", manifest(encoding=encoding))
    parent = Store.open(tmp_path / "raw.zarr")
    out = tmp_path / "revised.zarr"
    fill_store(CorrectionTask.of(parent, NAME, str(out)))
    store = Store.open(out)
    assert store.manifest.correction.temperature == TEMPERATURE
    assert store.manifest.measured.top1 == 100
    for view in range(VIEWS):
        before, after = parent.read_view("logits", view), store.read_view("logits", view)
        for row, label in enumerate(target()):
            if logits_of(view)[row].argmax() == label:
                assert after[row].tobytes() == before[row].tobytes()
                continue
            expected = plain_revision(before[row], label)
            np.testing.assert_allclose(softmax(after[row]), expected, atol=tolerance)
            assert store.read_view("top", view)[row, 0] == label
    assert f"corrected by {NAME} at temperature 4" in summary_lines(summarise(out))[0]
    soft = SoftLabels.open(tmp_path / "raw.zarr", correction="label-revision")
    slab = soft.epoch(0)
    np.testing.assert_array_equal(
        slab[slab.rows].numpy(), store.read_view("logits", slab.view).astype(np.float32)
    )


def test_codes_that_stand_for_values_are_refused():
    correction = correction_named(NAME)
    codes, top = np.uint8([[9, 5]]), np.uint8([[0, 1]])
    with pytest.raises(UsageError, match="changes values, so it needs logits in float32 or float1"):
        correction(codes, top, np.int32([1]))
    with pytest.raises(
        UsageError, match=r"raw.zarr holds uint8 codes: cache with --encoding float"
    ):
        correction.require_values(codes.dtype, "raw.zarr")


def test_virtual_stores_and_devices_are_for_ours(tmp_path):
    write_store(tmp_path / "raw.zarr")
    with pytest.raises(UsageError, match="--virtual takes sort or swap"):
        write_virtual_store(Store.open(tmp_path / "raw.zarr"), NAME, tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()
    with pytest.raises(UsageError, match="device other than the CPU"):
        row_corrector(correction_named(NAME), "cuda", 64)


def test_nan_is_refused_before_the_function_sees_it():
    correction = correction_named(NAME)
    codes, top = np.float32([[1, 2], [np.nan, 2]]), np.uint8([[1, 0], [1, 0]])
    with pytest.raises(BadRowError, match="row 1 has a NaN"):
        correction(codes, top, np.int32([0, 0]))


@pytest.mark.parametrize(
    ("revise", "message"),
    [
        (
            lambda logits, target: logits[:, :1],
            r"mine returned logits of shape \(1, 1\), expected \(1, 2\)",
        ),
        (lambda logits, target: logits * np.inf, "mine returned logits that are not finite"),
        (lambda logits, target: logits * 1e6, "mine: row 0 has a logit of magnitude"),
    ],
)
def test_what_a_function_may_not_give(revise, message):
    correction = register_correction("mine", revise, temperature=None)
    try:
        with pytest.raises(LogitbankError, match=message):
            correction(np.float16([[1, 2]]), np.uint8([[1, 0]]), np.int32([0]))
    finally:
        del CORRECTIONS["mine"]


def test_a_name_that_is_taken_and_names_that_lead_nowhere():
    with pytest.raises(UsageError, match="a correction named 'sort' exists already"):
        register_correction("sort", lambda logits, target: logits, temperature=None)
    with pytest.raises(UsageError, match="did you mean 'label-revision'"):
        correction_named("import:label_revision:label-revison")
    with pytest.raises(UsageError, match="no module 'nowhere'"):
        correction_named("import:nowhere:x")
    with pytest.raises(UsageError, match="is not of the form import:package.module:name"):
        correction_named("import:nowhere")
