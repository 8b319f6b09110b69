"""The slab holds one view, bit for bit, and refuses everything else."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler
from random import Random

import numpy as np
import pytest
import torch

from logitbank.stores import reader
from logitbank.stores.corrections import CORRECTIONS
from logitbank.stores.corrections.ranking import top_classes
from logitbank.stores.errors import StoreError
from logitbank.stores.reader import Store
from logitbank.stores.slab import Slab, SlabLoader, WrongRowError
from tests.forked import forked
from tests.stores.store_examples import CLASSES, SAMPLES, logits_of, target, write_store

CPU, META = torch.device("cpu"), torch.device("meta")


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


def test_a_view_that_could_not_be_read_ahead_is_right_when_asked_for_again_after_mending(
    store, tmp_path
):
    path = tmp_path / "raw.zarr/logits/c/1/2/0"
    good = path.read_bytes()
    path.write_bytes(good[::-1])
    loader = SlabLoader(store)
    loader.load(0, 1, CPU)
    for _ in range(2):
        with pytest.raises(StoreError, match="logits/c/1/2/0 is damaged"):
            loader.load(1, 2, CPU)
    path.write_bytes(good)
    slab = loader.load(1, 2, CPU)
    assert torch.equal(slab[slab.rows], stored(1))


def test_damage_of_a_view_that_nobody_asks_for_stops_nobody(store, tmp_path):
    (tmp_path / "raw.zarr/logits/c/1/2/0").unlink()
    loader = SlabLoader(store)
    loader.load(0, 1, CPU)
    slab = loader.load(2, 0, CPU)
    assert torch.equal(slab[slab.rows], stored(2))


# ---- memory


@pytest.fixture
def memories(monkeypatch) -> list[int]:
    """The addresses that views are read into, one after the other."""
    addresses: list[int] = []
    read_codes = Store.read_codes

    def noted(self, view, out):
        (array,) = out.values()
        addresses.append(array.ctypes.data)
        return read_codes(self, view, out)

    monkeypatch.setattr(Store, "read_codes", noted)
    return addresses


def test_one_thread_needs_two_views_worth_of_memory(store, memories):
    loader, draw = SlabLoader(store), Random(0)
    for _ in range(50):
        view, following = draw.randrange(3), draw.choice([0, 1, 2, None])
        slab = loader.load(view, following, CPU)
        assert torch.equal(slab[slab.rows], stored(view))
    assert len(set(memories)) == 2


def test_a_loader_that_nobody_holds_is_let_go_while_it_reads_ahead(store, monkeypatch):
    go_on, read_codes = threading.Event(), Store.read_codes
    loader = SlabLoader(store)
    slab = loader.load(0, None, CPU)
    monkeypatch.setattr(Store, "read_codes", lambda *given: go_on.wait(30) and read_codes(*given))
    loader.load(0, 1, CPU)
    gone, (thread,) = weakref.ref(loader), loader._pool._threads
    del loader
    gc.collect()
    assert gone() is None
    go_on.set()
    thread.join(30)
    assert not thread.is_alive()
    assert torch.equal(slab[slab.rows], stored(0))


def test_waiting_for_the_next_view_may_be_interrupted(store, monkeypatch, memories):
    """By Ctrl-C in a notebook, say: what is still read into is not read into once more."""
    loader = SlabLoader(store)
    loader.load(0, 1, CPU)
    with monkeypatch.context() as patch:
        for name in ("result", "exception"):
            patch.setattr(Future, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            loader.load(1, 2, CPU)
    for view in (1, 2, 0):
        slab = loader.load(view, None, CPU)
        assert torch.equal(slab[slab.rows], stored(view))
    assert len(memories) == 4
    assert len(set(memories)) == 2


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


# ---- threads


def test_a_gather_that_another_threads_epoch_overtakes_is_refused(store, monkeypatch):
    loader = SlabLoader(store)
    slab = loader.load(0, 1, CPU)
    index_select = torch.Tensor.index_select

    def epochs_go_by(*given: object) -> torch.Tensor:
        monkeypatch.setattr(torch.Tensor, "index_select", index_select)
        with ThreadPoolExecutor(1) as other:
            other.submit(loader.load, 1, 2, CPU).result(30)
            other.submit(loader.load, 2, 0, CPU).result(30)
        return index_select(*given)

    monkeypatch.setattr(torch.Tensor, "index_select", epochs_go_by)
    with pytest.raises(
        WrongRowError, match="view 0 is no longer in memory: another epoch has begun"
    ):
        slab[slab.rows]


def test_threads_that_ask_for_the_same_view_share_its_slab(store, memories):
    loader = SlabLoader(store)
    for view in (0, 1, 2, 0):
        with ThreadPoolExecutor(4) as threads:
            slabs = set(threads.map(lambda _, v=view: loader.load(v, (v + 1) % 3, CPU), range(8)))
        (slab,) = slabs
        assert torch.equal(slab[slab.rows], stored(view))
    assert len(memories) == 5


@pytest.fixture
def _often_switched() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_often_switched")
@pytest.mark.parametrize("correction", [None, "sort"])
def test_threads_get_right_rows_or_a_refusal(store, correction):
    """Each goes through views in an order of its own, and gathers from all slabs that it has."""
    wanted = [stored(view) for view in range(3)]
    if correction:
        slabs = (SlabLoader(store, correction).load(view, None, CPU) for view in range(3))
        wanted = [slab[slab.rows] for slab in slabs]
    loader = SlabLoader(store, correction)

    def train(seed: int) -> tuple[int, int]:
        draw, slabs, right, refused = Random(seed), [], 0, 0
        for _ in range(30):
            slabs = [*slabs[-3:], loader.load(draw.randrange(3), draw.randrange(3), CPU)]
            for slab in slabs:
                try:
                    found = slab[slab.rows.repeat(20)]
                except WrongRowError:
                    refused += 1
                else:
                    assert torch.equal(found, wanted[slab.view].repeat(20, 1))
                    right += 1
        return right, refused

    with ThreadPoolExecutor(4) as threads:
        right, refused = np.sum(list(threads.map(train, range(4))), axis=0)
    assert right > 0
    assert refused > 0


# ---- devices


@pytest.mark.parametrize("following", [1, None])
def test_slabs_of_one_view_on_several_devices_serve_together(store, following):
    loader = SlabLoader(store)
    slabs = [loader.load(0, following, device) for device in (CPU, META, CPU, META)]
    assert slabs[0] is slabs[2]
    assert slabs[1] is slabs[3]
    assert [slab.device for slab in slabs[:2]] == [CPU, META]
    assert torch.equal(slabs[0][slabs[0].rows], stored(0))
    assert slabs[1].current


def test_a_view_that_was_read_ahead_for_another_device_is_given_on_the_one_asked_for(store):
    loader = SlabLoader(store)
    loader.load(0, 1, META)
    for view, device in [(1, CPU), (2, META), (0, CPU)]:
        slab = loader.load(view, (view + 1) % 3, device)
        assert slab.device == device
        assert device == META or torch.equal(slab[slab.rows], stored(view))


def test_a_device_is_the_one_that_tensors_on_it_name(store):
    """`cpu:0` is `cpu`, as `cuda` is the current one of `cuda:0`, `cuda:1` and so on."""
    loader = SlabLoader(store)
    slabs = {loader.load(0, 1, torch.device(name)) for name in ("cpu", "cpu:0")}
    assert len(slabs) == 1


def test_a_slab_on_a_device_is_given_up_with_its_view(store):
    loader = SlabLoader(store)
    slab = loader.load(0, 1, META)
    loader.load(1, 2, META)
    assert not slab.current


def test_the_default_device_of_the_calling_code_is_not_where_views_are_read(store):
    with torch.device("meta"):
        slab = SlabLoader(store).load(0, None, CPU)
    assert torch.equal(slab[slab.rows], stored(0))


# ---- processes


def sent(slab: Slab) -> Slab:
    """As to a spawned worker, or through a queue: torch shares the memory of what is sent."""
    return pickle.loads(bytes(ForkingPickler.dumps(slab)))


@pytest.mark.parametrize("copied", [sent, copy.copy, copy.deepcopy])
def test_a_copied_slab_has_memory_of_its_own(store, copied: Callable[[Slab], Slab]):
    loader = SlabLoader(store)
    slab = loader.load(0, 1, CPU)
    again = copied(slab)
    loader.load(1, 2, CPU)
    loader.load(2, None, CPU)
    assert torch.equal(again[again.rows], stored(0))
    with pytest.raises(WrongRowError, match="view 0 is no longer in memory"):
        copied(slab)


def test_a_forked_process_reads_a_store_whose_targets_another_thread_just_reads(store, monkeypatch):
    reading, go_on = threading.Event(), threading.Event()
    read_chunk = reader.read_chunk

    def held(*given):
        if threading.current_thread() is thread:
            reading.set()
            go_on.wait(30)
        return read_chunk(*given)

    monkeypatch.setattr(reader, "read_chunk", held)
    thread = threading.Thread(target=lambda: store.target)
    thread.start()
    try:
        assert reading.wait(30)
        assert forked(lambda: store.target.tolist()) == target().tolist()
    finally:
        go_on.set()
        thread.join()
