"""The slab holds one view, bit for bit, and refuses everything else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from logitbank.stores.corrections import CORRECTIONS
from logitbank.stores.errors import StoreError
from logitbank.stores.ranking import top_classes
from logitbank.stores.reader import Store
from logitbank.stores.slab import SlabLoader, WrongRowError
from tests.stores.store_examples import CLASSES, SAMPLES, logits_of, target, write_store

CPU = torch.device("cpu")


@pytest.fixture
def store(tmp_path):
    write_store(tmp_path / "raw.zarr")
    return Store.open(tmp_path / "raw.zarr")


def stored(view: int) -> torch.Tensor:
    return torch.from_numpy(logits_of(view).astype(np.float16).astype(np.float32))


def test_rows_are_gathered_from_this_view_alone(store):
    loader = SlabLoader(store)
    for view, following in [(2, 0), (0, 1), (1, 1), (1, 2), (2, None)]:
        slab = loader.load(view, following, CPU)
        assert slab.rows.tolist() == list(range(view * SAMPLES, (view + 1) * SAMPLES))
        pick = torch.tensor([3, 0, 9, 3])
        assert slab[slab.rows[pick]].dtype == torch.float32
        torch.testing.assert_close(slab[slab.rows[pick]], stored(view)[pick], rtol=0, atol=0)


@pytest.mark.parametrize("row", [0, SAMPLES - 1, 2 * SAMPLES, -1])
def test_rows_of_another_view_are_refused_with_both_views_named(store, row):
    slab = SlabLoader(store).load(1, None, CPU)
    with pytest.raises(WrongRowError, match=f"row {row} is sample .* this epoch's slab holds view"):
        slab[torch.tensor([SAMPLES, row])]


def test_a_slab_whose_memory_was_given_away_refuses_to_speak(store):
    loader = SlabLoader(store)
    first = loader.load(0, 1, CPU)
    second = loader.load(1, 2, CPU)
    third = loader.load(2, None, CPU)
    assert second.current
    assert third.current
    with pytest.raises(WrongRowError, match="view 0 is no longer in memory"):
        first[first.rows]


def test_damage_met_while_reading_ahead_is_raised_when_its_epoch_begins(store, tmp_path):
    path = tmp_path / "raw.zarr/logits/c/1/2/0"
    path.write_bytes(path.read_bytes()[::-1])
    loader = SlabLoader(store)
    loader.load(0, 1, CPU)
    with pytest.raises(StoreError, match="logits/c/1/2/0 is damaged"):
        loader.load(1, 2, CPU)


def test_a_view_is_read_again_after_the_one_read_ahead_in_its_place_was_bad(store, tmp_path):
    path = tmp_path / "raw.zarr/logits/c/2/0/0"
    path.write_bytes(path.read_bytes()[::-1])
    loader = SlabLoader(store)
    loader.load(0, 1, CPU)
    loader.load(1, 2, CPU)
    with pytest.raises(StoreError):
        loader.load(2, 0, CPU)
    slab = loader.load(0, 1, CPU)
    torch.testing.assert_close(slab[slab.rows], stored(0), rtol=0, atol=0)


def test_a_slab_is_given_up_before_its_memory_is_written_to(store, monkeypatch):
    """Between the two a gather would give rows of both views."""
    loader = SlabLoader(store)
    slabs = [loader.load(0, 1, CPU), loader.load(1, None, CPU)]
    states = []
    monkeypatch.setattr(loader._pool, "submit", lambda *work: states.append(slabs[0].current))
    loader.load(1, 2, CPU)
    assert states == [False]


@pytest.mark.parametrize("name", ["sort", "swap"])
def test_correcting_while_reading_equals_correcting_rows(store, name):
    slab = SlabLoader(store, name).load(1, None, CPU)
    codes = logits_of(1).astype(np.float16)
    CORRECTIONS[name](codes, top_classes(logits_of(1), target(), CLASSES), target())
    np.testing.assert_array_equal(slab[slab.rows].numpy(), codes.astype(np.float32))
