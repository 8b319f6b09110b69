"""The batched torch path gives the bits of the row kernels; without a GPU, on CPU tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitbank.stores.corrections import CORRECTIONS, BadRowError
from logitbank.stores.corrections.device import DeviceCorrector, correct_tensors
from logitbank.stores.corrections.ranking import top_classes
from logitbank.stores.errors import UsageError
from tests.stores.corrections.test_definitions import rows

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
NAMES = st.sampled_from(["sort", "swap"])


def random_rows(classes: int, dtype: str):
    """Codes, `top` and labels of 1,000 rows, half of them right."""
    rng = np.random.default_rng(classes)
    logits = rng.normal(size=(1000, classes)).astype(np.float32).round(1)
    target = rng.integers(0, classes, 1000).astype(np.int32)
    target[:500] = logits[:500].argmax(axis=1)
    top = top_classes(logits, target, min(16, classes))
    codes = (logits * 20 + 128).clip(0, 255) if dtype == "uint8" else logits
    return codes.astype(dtype), top, target


def kernels(name, codes, top, target):
    codes, top = codes.copy(), top.copy()
    CORRECTIONS[name](codes, top, target)
    return codes.tobytes(), top.tobytes()


def tensors(name, codes, top, target, device="cpu"):
    there = [torch.from_numpy(array.copy()).to(device) for array in (codes, top, target)]
    correct_tensors(name, *there)
    return tuple(tensor.cpu().numpy().tobytes() for tensor in there[:2])


@settings(deadline=None)  # the first example compiles
@given(rows(), NAMES, st.sampled_from(["float32", "float16"]))
def test_any_row_equals_the_row_kernel(row, name, dtype):
    logits, label, known = row
    exact, target = np.array([logits], np.float32), np.array([label], np.int32)
    given_rows = exact.astype(dtype), top_classes(exact, target, known), target
    assert tensors(name, *given_rows) == kernels(name, *given_rows)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("classes", [3, 100, 300])
@pytest.mark.parametrize("name", ["sort", "swap"])
def test_many_rows_equal_the_row_kernel_in_batches_of_any_size(name, classes, dtype, device):
    codes, top, target = random_rows(classes, dtype)
    expected = kernels(name, codes, top, target)
    assert tensors(name, codes, top, target, device) == expected
    for batch_rows in (1, 37, 10_000):
        corrector = DeviceCorrector(name, device, batch_rows)
        for _ in range(2):  # the buffers are used again
            here, here_top = codes.copy(), top.copy()
            corrector(here, here_top, target)
            assert (here.tobytes(), here_top.tobytes()) == expected


def test_a_corrector_takes_rows_of_another_shape_after_the_first():
    corrector = DeviceCorrector("sort", "cpu", 64)
    for classes, dtype in ((100, "float16"), (300, "float16"), (300, "float32")):
        codes, top, target = random_rows(classes, dtype)
        expected = kernels("sort", codes, top, target)
        corrector(codes, top, target)
        assert (codes.tobytes(), top.tobytes()) == expected


def test_a_row_with_a_nan_is_refused_and_nothing_is_changed():
    codes, top, target = random_rows(100, "float16")
    codes[700, 3] = np.nan
    before = codes.tobytes()
    with pytest.raises(BadRowError, match="row 700 has a NaN"):
        DeviceCorrector("sort", "cpu", 64)(codes, top, target)
    tensor = torch.from_numpy(codes)
    with pytest.raises(BadRowError, match="row 700 has a NaN"):
        correct_tensors("sort", tensor, torch.from_numpy(top), torch.from_numpy(target))
    assert codes.tobytes() == before


def test_a_correction_of_the_cpu_alone_and_no_such_device_are_refused():
    with pytest.raises(UsageError, match="device other than the CPU"):
        DeviceCorrector("label-revision", "cpu", 64)
    with pytest.raises(UsageError, match="unknown torch device 'tpu9x'"):
        DeviceCorrector("sort", "tpu9x", 64)
