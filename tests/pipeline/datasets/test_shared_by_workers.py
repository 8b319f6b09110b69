"""What threads, forked and spawned workers may do with soft labels and views, as the docs say."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from logitbank import RowSampler, SoftLabels, ViewDataset
from logitbank.pipeline.read_ahead import read_ahead
from logitbank.pipeline.views import CifarWeak, ViewRenderer
from logitbank.stores.errors import LogitbankError, UsageError
from logitbank.stores.reader import Store
from tests.forked import forked
from tests.pipeline.views.view_examples import memory_dataset, write_store

VIEWS, SAMPLES = 3, 40


@pytest.fixture(scope="module")
def dataset():
    return memory_dataset(SAMPLES)


@pytest.fixture(scope="module")
def path(dataset, tmp_path_factory) -> Path:
    return write_store(tmp_path_factory.mktemp("shared") / "raw.zarr", dataset, views=VIEWS)


@pytest.fixture(scope="module")
def logits(path) -> list[torch.Tensor]:
    store = Store.open(path)
    return [torch.from_numpy(store.read_view("logits", view)) for view in range(VIEWS)]


def are_right(soft: SoftLabels, epochs: range, logits: list[torch.Tensor]) -> bool:
    """Tell whether epochs give their views' rows."""
    slabs = (soft.epoch(epoch) for epoch in epochs)
    return all(torch.equal(slab[slab.rows], logits[slab.view]) for slab in slabs)


# ---- forked


def test_epochs_go_on_in_a_forked_process_and_leave_its_parent_undisturbed(path, logits):
    soft = SoftLabels.open(path)
    slab = soft.epoch(0)
    assert forked(lambda: are_right(soft, range(5), logits))
    assert slab.current
    assert are_right(soft, range(5), logits)


@pytest.mark.parametrize("reader", ["the thread that reads ahead", "one that waits for an epoch"])
def test_a_forked_process_needs_nothing_that_its_parent_is_about_to_read(
    path, logits, monkeypatch, reader
):
    """Whoever reads as the process is forked holds memory and a lock, and is not in there."""
    soft, parent = SoftLabels.open(path), os.getpid()
    reading, go_on, read_codes = threading.Event(), threading.Event(), Store.read_codes

    def held(*given):
        is_ahead = threading.current_thread().name.startswith("slab")
        if os.getpid() == parent and is_ahead == (reader == "the thread that reads ahead"):
            reading.set()
            go_on.wait(30)
        return read_codes(*given)

    monkeypatch.setattr(Store, "read_codes", held)
    with ThreadPoolExecutor(1) as other:
        slab = other.submit(soft.epoch, 0)
        try:
            assert reading.wait(30)
            assert forked(lambda: are_right(soft, range(4), logits))
        finally:
            go_on.set()
        assert torch.equal(slab.result(30)[slab.result().rows], logits[slab.result().view])
    assert are_right(soft, range(4), logits)


def test_a_slab_from_before_the_fork_serves_in_the_forked_process(path, logits):
    soft = SoftLabels.open(path)
    slab = soft.epoch(0)
    taken = slab.view

    def gather() -> bool:
        before = torch.equal(slab[slab.rows], logits[taken])
        return before and are_right(soft, range(3), logits)

    assert forked(gather)


def test_a_large_gather_ends_in_a_forked_process_that_torch_has_no_threads_in(path, logits):
    torch.set_num_threads(2)
    soft = SoftLabels.open(path)
    slab = soft.epoch(0)
    many = 1000

    def gather() -> bool:
        slab = soft.epoch(0)
        return torch.equal(slab[slab.rows.repeat(many)], logits[slab.view].repeat(many, 1))

    assert torch.equal(slab[slab.rows.repeat(many)], logits[slab.view].repeat(many, 1))
    assert forked(gather)
    assert torch.get_num_threads() == 2


class Labelled(Dataset):
    """A user's own dataset that looks its soft labels up itself, in the worker."""

    def __init__(self, soft: SoftLabels) -> None:
        self.soft = soft

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, sample: int) -> tuple[int, torch.Tensor]:
        slab = self.soft.epoch(0)
        return sample, slab[slab.rows[sample : sample + 1]][0]


def test_workers_that_a_loader_forks_may_hold_soft_labels(path, logits):
    soft = SoftLabels.open(path, correction="sort")
    slab = soft.epoch(0)
    loader = DataLoader(
        Labelled(soft), 8, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    samples, found = map(torch.cat, zip(*loader, strict=True))
    assert samples.tolist() == list(range(SAMPLES))
    assert torch.equal(found, slab[slab.rows])


def test_what_a_spawned_worker_is_sent_opens_the_store_again(path, logits):
    soft = SoftLabels.open(path)
    soft.epoch(0)
    sent = pickle.dumps(Labelled(soft))
    assert len(sent) < 1000
    assert are_right(pickle.loads(sent).soft, range(3), logits)


@pytest.fixture
def url(path) -> Iterator[str]:
    """A store behind http."""
    pytest.importorskip("aiohttp")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=path.parent))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/{path.name}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_store_behind_a_url_is_read_in_a_forked_process_as_well(url, logits, dataset):
    soft = SoftLabels.open(url)
    soft.epoch(0)
    data = ViewDataset(dataset, soft.augmentation)
    expected = [data[row][0].tolist() for row in (0, 41)]
    fresh = ViewDataset(dataset, SoftLabels.open(url).augmentation)
    assert forked(lambda: [fresh[row][0].tolist() for row in (0, 41)]) == expected
    assert forked(lambda: are_right(soft, range(3), logits))
    assert are_right(soft, range(3), logits)


def test_what_is_read_ahead_is_not_gone_on_with_in_a_forked_process():
    items = read_ahead(range(10), depth=2)
    assert next(items) == 0

    def go_on() -> str:
        with pytest.raises(LogitbankError) as error:
            next(items)
        return str(error.value)

    assert "can't be continued in another that was forked" in forked(go_on)
    assert list(items) == list(range(1, 10))


# ---- threads


def test_threads_share_one_dataset_of_views(path, dataset):
    soft = SoftLabels.open(path)
    rows = np.random.default_rng(0).permutation(VIEWS * SAMPLES).reshape(-1, 10).tolist()
    plain = ViewDataset(dataset, SoftLabels.open(path).augmentation)
    expected = [plain.__getitems__(part) for part in rows]
    data = ViewDataset(dataset, soft.augmentation)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(data.__getitems__, rows))
    for one, other in zip(found, expected, strict=True):
        for (pixels, *rest), (wanted, *others) in zip(one, other, strict=True):
            assert torch.equal(pixels, wanted)
            assert rest == others


def test_threads_that_draw_from_other_seeds_share_a_renderer(dataset):
    renderer = ViewRenderer(dataset, CifarWeak(size=8, pad=1))
    samples = np.arange(SAMPLES)
    expected = [
        ViewRenderer(dataset, CifarWeak(size=8, pad=1)).draw(seed, 1, samples)[1]
        for seed in range(8)
    ]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            drawn = threads.map(lambda seed: renderer.draw(seed, 1, samples)[1], [*range(8)] * 10)
            for params, wanted in zip(drawn, expected * 10, strict=True):
                assert np.array_equal(params, wanted)
    finally:
        sys.setswitchinterval(before)


def test_an_order_of_rows_that_was_begun_stays_that_of_its_epoch(path):
    sampler = RowSampler(SoftLabels.open(path).augmentation, seed=1)
    orders = {}
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        orders[epoch] = list(sampler)
    sampler.set_epoch(0)
    begun = iter(sampler)
    first = next(begun)
    sampler.set_epoch(1)
    assert [first, *begun] == orders[0]
    assert list(sampler) == orders[1]


# ---- the end, and devices


PROGRAM = """
import os, sys, threading
from logitbank import SoftLabels
from logitbank.stores.reader import Store

read_codes, ending = Store.read_codes, threading.Event()
threading._register_atexit(ending.set)

def late(*given):
    if threading.current_thread() is not threading.main_thread():
        ending.wait(60)
    return read_codes(*given)

soft = SoftLabels.open(sys.argv[1], correction="sort")
Store.read_codes = late
views = [soft.epoch(0).view]
forked = os.fork()
if forked:
    assert os.waitpid(forked, 0)[1] == 0
else:
    views += [soft.epoch(0).view]
print(views)
"""


def test_a_program_may_end_while_the_next_view_is_read(path):
    """So may one that was forked from it: without a word, and without waiting for ever."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, timeout=120
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    view = SoftLabels.open(path).view(0)
    assert ended.stdout.splitlines() == [str([view, view]), str([view])]


@pytest.mark.parametrize("device", ["cuda:77", torch.device("cuda", 77), "gpu"])
def test_a_device_that_there_isnt_is_refused(path, device):
    with pytest.raises(UsageError, match=f"device '{device}': torch (finds|knows)"):
        SoftLabels.open(path).epoch(0, device=device)
