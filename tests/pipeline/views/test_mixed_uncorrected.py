"""A store of mixed views takes no correction, by whichever door; the error says why."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from logitbank import SoftLabels
from logitbank.pipeline.correct import corrected_manifest, write_virtual_store
from logitbank.pipeline.views import CifarWeak, CutMix, Mixed
from logitbank.stores.corrections import CORRECTIONS, register_correction
from logitbank.stores.errors import StoreError, UsageError
from logitbank.stores.manifest import CorrectionIdentity
from logitbank.stores.reader import Store
from logitbank.stores.seal import document_bytes, root_document
from logitbank.stores.virtual import virtual_digest, virtual_manifest
from tests.pipeline.views.view_examples import memory_dataset, write_store

REFUSAL = (
    "raw.zarr can't be corrected: its views are cifar-weak+cutmix, each mixed of two images with "
    "a label of its own, and a correction puts one label first: use the store as it is, or cache "
    "without MixUp and CutMix"
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    dataset = memory_dataset()
    augmentation = Mixed(CifarWeak(size=8, pad=1), CutMix(), len(dataset))
    path = tmp_path_factory.mktemp("mixed") / "raw.zarr"
    return write_store(path, dataset, augmentation=augmentation)


@pytest.fixture
def own_correction():
    name = "to-its-mean"
    register_correction(name, lambda logits, target: 0 * logits, temperature=None)
    yield name
    del CORRECTIONS[name]


@pytest.mark.parametrize("door", ["correct", "correct --virtual", "reader", "soft labels"])
@pytest.mark.parametrize("name", ["sort", "swap", "own"])
def test_every_correction_is_refused_at_every_door(path, tmp_path, door, name, own_correction):
    name = own_correction if name == "own" else name
    store = Store.open(path)
    doors = {
        "correct": lambda: corrected_manifest(store, name),
        "correct --virtual": lambda: write_virtual_store(store, name, tmp_path / "virtual.zarr"),
        "reader": lambda: store.corrected_by(name),
        "soft labels": lambda: SoftLabels.open(path, correction=name),
    }
    with pytest.raises(UsageError) as refusal:
        doors[door]()
    assert str(refusal.value).endswith(REFUSAL)
    assert not (tmp_path / "virtual.zarr").exists()


def test_a_virtual_store_that_was_made_by_hand_is_refused(path, tmp_path):
    raw = Store.open(path).manifest
    wanted = dataclasses.replace(
        raw.unsealed(), kind="corrected", correction=CorrectionIdentity("sort", raw.digest)
    )
    virtual = virtual_manifest(wanted, str(path), tmp_path / "virtual.zarr")
    sealed = virtual.sealed(virtual_digest(virtual), "2026-01-01T00:00:00+00:00")
    (tmp_path / "virtual.zarr").mkdir()
    document = document_bytes(root_document(sealed))
    (tmp_path / "virtual.zarr" / "zarr.json").write_bytes(document)
    assert json.loads(document)["attributes"]["kind"] == "virtual"
    with pytest.raises(StoreError, match=r"virtual\.zarr can't be corrected: its views are"):
        SoftLabels.open(tmp_path / "virtual.zarr")


def test_the_store_as_it_is_is_read_like_any_other(path):
    soft = SoftLabels.open(path)
    slab = soft.epoch(0)
    expected = soft.store.read_view("logits", slab.view)
    assert np.array_equal(slab[slab.rows], expected)
    assert soft.manifest.augmentation.is_mixed


def test_stores_of_single_images_are_told_from_mixed_ones(tmp_path):
    store = Store.open(write_store(tmp_path / "plain.zarr", memory_dataset()))
    assert not store.manifest.augmentation.is_mixed
    assert store.corrected_by("sort").correction == "sort"
