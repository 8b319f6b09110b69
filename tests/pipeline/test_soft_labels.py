"""The library's door: each epoch's soft labels, through any loader, for the rows of its view."""

from __future__ import annotations

import copy
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from logitbank import LogitbankError, RowSampler, SoftLabels, ViewDataset
from logitbank.pipeline.correct import CorrectionTask
from logitbank.pipeline.store_task import fill_store
from logitbank.pipeline.views.draws import view_of_epoch
from logitbank.stores.errors import StoreError, UsageError
from logitbank.stores.reader import Store
from logitbank.stores.slab import WrongRowError
from logitbank.stores.writer import StoreWriter
from tests.pipeline.student.student_examples import small_dataset, small_store, small_teacher
from tests.reference import views as reference

SAMPLES, VIEWS, CLASSES, VIEW_ORDER = 60, 4, 7, 16
ENCODINGS = {"float16": np.float16, "float32": np.float32}


@pytest.fixture(scope="module")
def dataset() -> Any:
    return small_dataset(SAMPLES)


@pytest.fixture(scope="module", params=ENCODINGS)
def raw(request, dataset, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    soft = small_store(
        folder / "raw.zarr",
        dataset,
        small_teacher(folder),
        views=VIEWS,
        encoding=request.param,
    )
    assert soft.manifest.encoding == request.param
    return folder / "raw.zarr"


def plain_logits(path: Path) -> torch.Tensor:
    """(V, N, C) float32: the store's logits, read by zarr alone."""
    return torch.from_numpy(np.asarray(zarr.open_group(path, mode="r")["logits"], np.float32))


def corrected(raw: Path, name: str) -> Path:
    path = raw.with_name(f"{name}.zarr")
    fill_store(CorrectionTask.of(Store.open(raw), name, str(path)))
    return path


# Which view an epoch trains on


@given(views=st.integers(1, 12), cycle=st.integers(0, 5), seed=st.integers(0, 2**64 - 1))
def test_a_cycle_of_epochs_goes_through_all_views(views, cycle, seed):
    first = cycle * views
    order = [view_of_epoch(epoch, views, seed) for epoch in range(first, first + views)]
    drawn = reference.words(seed, 0, cycle, VIEW_ORDER, views)
    assert order == sorted(range(views), key=drawn.__getitem__)
    assert sorted(order) == list(range(views))


def test_epochs_follow_the_students_own_seed_with_a_fresh_order_for_each_cycle(raw):
    soft = SoftLabels.open(raw)
    cycles = 8
    orders = {}
    for seed in (0, 1):
        views = [soft.epoch(epoch, seed=seed).view for epoch in range(cycles * VIEWS)]
        assert views == [view_of_epoch(epoch, VIEWS, seed) for epoch in range(cycles * VIEWS)]
        orders[seed] = [tuple(views[at : at + VIEWS]) for at in range(0, len(views), VIEWS)]
    assert all(sorted(order) == list(range(VIEWS)) for order in orders[0] + orders[1])
    # 8 draws of 24 orders: fewer than 4 different ones has a chance below 1e-4.
    assert len(set(orders[0])) >= 4
    assert orders[0] != orders[1]


# What a slab gives


def test_epochs_equal_the_stored_rows_bit_for_bit(raw):
    soft, stored = SoftLabels.open(raw), plain_logits(raw)
    assert (soft.views, soft.samples, soft.classes) == stored.shape
    for epoch in (0, 1, 2, 3, 4, 9, 2, 2, 0):  # in turn, ahead, back, again
        slab = soft.epoch(epoch, seed=7)
        assert slab.view == view_of_epoch(epoch, VIEWS, 7)
        first = slab.view * SAMPLES
        assert slab.rows.dtype == torch.int64
        assert slab.rows.tolist() == list(range(first, first + SAMPLES))
        order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(epoch))
        rows = slab[slab.rows[order]]
        assert rows.dtype == torch.float32
        assert torch.equal(rows, stored[slab.view][order])


def test_two_students_of_one_store_do_not_disturb_each_other(raw):
    stored = plain_logits(raw)
    students = [SoftLabels.open(raw) for _ in range(2)]
    for epoch in range(2 * VIEWS):
        slabs = [soft.epoch(epoch, seed=seed) for seed, soft in enumerate(students)]
        for slab in slabs:
            assert torch.equal(slab[slab.rows], stored[slab.view])


def test_rows_of_another_view_are_refused_and_both_views_named(raw):
    soft = SoftLabels.open(raw)
    slab = soft.epoch(0)
    other = (slab.view + 1) % VIEWS
    wrong = other * SAMPLES + 5
    expected = f"row {wrong} is sample 5 of view {other}, but .* slab holds view {slab.view}"
    with pytest.raises(WrongRowError, match=expected):
        slab[torch.tensor([slab.rows[0], wrong])]
    assert isinstance(WrongRowError("x"), LogitbankError)


def test_a_store_of_one_view_is_read_once(dataset, tmp_path, monkeypatch):
    soft = small_store(tmp_path / "one.zarr", dataset, small_teacher(tmp_path), views=1)
    reads = []
    read_codes = Store.read_codes
    monkeypatch.setattr(
        Store, "read_codes", lambda *given: reads.append([*given[2]]) or read_codes(*given)
    )
    for epoch in range(5):
        slab = soft.epoch(epoch)
        assert torch.equal(slab[slab.rows], plain_logits(tmp_path / "one.zarr")[0])
    assert reads == [["logits"]]


# Through a DataLoader


@pytest.fixture(scope="module")
def rendered(raw, dataset) -> np.ndarray:
    """(V, N, 32, 32, 3) uint8: what the teacher saw, by the plain definitions."""
    parameters = {"size": 32, "pad": 4}
    view_params = np.asarray(zarr.open_group(raw, mode="r")["view_params"])
    views = [
        [
            reference.render("cifar-weak", parameters, image, drawn)
            for image, drawn in zip(dataset.images, params, strict=True)
        ]
        for params in view_params
    ]
    return np.array(views)


def samples_of_epoch(
    loader: Any, slab: Any, raw: Path, rendered: np.ndarray, dataset: Any
) -> list[int]:
    """Require each image to be its row's view and to meet its row's logits; give the samples."""
    stored, seen = plain_logits(raw)[slab.view], []
    for pixels, targets, row in loader:
        assert (row // SAMPLES == slab.view).all()
        samples = row % SAMPLES
        assert np.array_equal(pixels.numpy(), rendered[slab.view, samples])
        assert targets.tolist() == dataset.targets[samples].tolist()
        assert torch.equal(slab[row], stored[samples])
        seen += samples.tolist()
    return seen


@pytest.mark.parametrize("workers", ["none", "fork", "spawn"])
def test_one_loader_serves_every_epoch(workers, raw, rendered, dataset):
    soft = SoftLabels.open(raw)
    sampler = RowSampler(soft.augmentation, seed=2)
    several = {"num_workers": 2, "persistent_workers": True, "multiprocessing_context": workers}
    loader = DataLoader(
        ViewDataset(dataset, soft.augmentation),
        batch_size=16,
        sampler=sampler,
        **({} if workers == "none" else several),
    )
    orders = []
    for epoch in range(VIEWS + 1):
        slab = soft.epoch(epoch, seed=2)
        sampler.set_epoch(epoch)
        orders.append(samples_of_epoch(loader, slab, raw, rendered, dataset))
        assert sorted(orders[-1]) == list(range(SAMPLES))
    assert len({tuple(order) for order in orders}) == VIEWS + 1


def test_the_ranks_of_a_distributed_run_share_an_epoch_without_overlap(raw, rendered, dataset):
    softs, samplers, loaders = [], [], []
    for rank in range(2):
        softs.append(SoftLabels.open(raw))
        positions = DistributedSampler(range(SAMPLES), num_replicas=2, rank=rank)
        samplers.append(RowSampler(softs[-1].augmentation, positions, seed=2))
        data = ViewDataset(dataset, softs[-1].augmentation)
        loaders.append(
            DataLoader(
                data, batch_size=8, sampler=samplers[-1], num_workers=1, persistent_workers=True
            )
        )
    seen = []
    for epoch in range(VIEWS + 1):
        shares = []
        for soft, sampler, loader in zip(softs, samplers, loaders, strict=True):
            slab = soft.epoch(epoch, seed=2)
            sampler.set_epoch(epoch)
            shares.append(samples_of_epoch(loader, slab, raw, rendered, dataset))
        assert len(shares[0]) == len(shares[1]) == SAMPLES // 2
        assert sorted(shares[0] + shares[1]) == list(range(SAMPLES))
        seen.append(tuple(shares[0]))
    assert len(set(seen)) == VIEWS + 1


def test_a_sampler_left_behind_is_refused_not_followed(raw, dataset):
    """Persistent workers whose sampler nobody told of the new epoch serve the old one's rows."""
    soft = SoftLabels.open(raw)
    sampler = RowSampler(soft.augmentation)
    data = ViewDataset(dataset, soft.augmentation)
    loader = DataLoader(data, 16, sampler=sampler, num_workers=1, persistent_workers=True)
    slab = soft.epoch(0)
    assert sum(len(slab[row]) for *_, row in loader) == SAMPLES
    slab = soft.epoch(1)
    stale = [row for *_, row in loader]
    with pytest.raises(WrongRowError, match="a sampler or worker still has those of another epoch"):
        slab[stale[0]]


def test_a_loader_that_shuffles_all_rows_is_refused(raw, dataset):
    soft = SoftLabels.open(raw)
    slab = soft.epoch(0)
    loader = DataLoader(ViewDataset(dataset, soft.augmentation), batch_size=32, shuffle=True)
    with pytest.raises(WrongRowError, match=r"take rows from this epoch's slab\.rows"):
        slab[next(iter(loader))[2]]


def test_soft_labels_are_copied_and_pickled_as_the_store_they_are_of(raw):
    soft = SoftLabels.open(raw, correction="sort")
    expected = soft.epoch(1)
    for again in (pickle.loads(pickle.dumps(soft)), copy.deepcopy(soft)):
        slab = again.epoch(1)
        assert torch.equal(slab[slab.rows], expected[expected.rows])


# Corrections, and what can't be opened or read


@pytest.mark.parametrize("name", ["sort", "swap"])
def test_correcting_while_reading_equals_the_corrected_store(raw, name, dataset):
    fly, store = SoftLabels.open(raw, correction=name), SoftLabels.open(corrected(raw, name))
    before, after = plain_logits(raw), plain_logits(corrected(raw, name))
    targets = torch.from_numpy(dataset.targets).long()[:, None]
    changed = 0
    for epoch in range(VIEWS):
        ours, theirs = fly.epoch(epoch), store.epoch(epoch)
        assert ours.view == theirs.view
        rows = ours[ours.rows]
        assert torch.equal(rows, theirs[theirs.rows])
        assert torch.equal(rows, after[ours.view])
        label = rows.gather(1, targets)
        assert (label == rows.max(dim=1, keepdim=True).values).all()
        assert torch.equal(rows.sort(dim=1).values, before[ours.view].sort(dim=1).values)
        changed += int((rows != before[ours.view]).any(dim=1).sum())
    assert changed > SAMPLES


def test_a_corrected_store_is_not_corrected_again(raw):
    with pytest.raises(UsageError, match="is corrected by sort already: open the raw store"):
        SoftLabels.open(corrected(raw, "sort"), correction="swap")


def test_an_unknown_correction_is_refused_with_the_nearest(raw):
    with pytest.raises(UsageError, match="'sotr'.*did you mean 'sort'"):
        SoftLabels.open(raw, correction="sotr")


def test_a_missing_store_and_one_not_finished_are_refused(tmp_path, raw, dataset):
    with pytest.raises(StoreError, match=r"nothing\.zarr"):
        SoftLabels.open(tmp_path / "nothing.zarr")
    begun = tmp_path / "begun.zarr"
    manifest = Store.open(raw).manifest.unsealed()
    StoreWriter.open(begun, manifest, dataset.targets, dataset.sample_ids)
    with pytest.raises(StoreError, match=r"begun\.zarr .*complete"):
        SoftLabels.open(begun)


def test_a_damaged_chunk_stops_the_epoch_that_needs_it_and_no_other(tmp_path, raw):
    path = shutil.copytree(raw, tmp_path / "raw.zarr")
    bad = view_of_epoch(2, VIEWS, 0)
    chunk = path / f"logits/c/{bad}/1/0"
    content = bytearray(chunk.read_bytes())
    content[11] ^= 4
    chunk.write_bytes(content)
    soft = SoftLabels.open(path)
    for epoch in (0, 1):
        slab = soft.epoch(epoch)
        assert torch.equal(slab[slab.rows], plain_logits(raw)[slab.view])
    with pytest.raises(StoreError, match=f"logits/c/{bad}/1/0"):
        soft.epoch(2)
