"""A run killed at any moment and run again ends as one that was not disturbed, bit for bit."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from logitbank.pipeline.losses import LOSSES, loss_class
from logitbank.pipeline.soft_labels import SoftLabels
from logitbank.pipeline.student import Progress, TrainConfig, train
from logitbank.stores.errors import LogitbankError, UsageError
from logitbank.stores.files import LocalFiles
from tests.pipeline.student.student_examples import (
    losses_of,
    same_weights,
    small_config,
    small_dataset,
    small_store,
    small_teacher,
    timeless,
    weights_of,
)
from tests.pipeline.student.student_nets import DROPOUT_NET

CONFIG = small_config(student=DROPOUT_NET, epochs=3, milestones=(1,))


class Killed(BaseException):
    """What a kill looks like from within: nothing catches it."""


@pytest.fixture(scope="module")
def undisturbed(folder, dataset, evaluation, soft):
    out = folder / "undisturbed"
    return train(CONFIG, dataset, out=out, soft_labels=soft, eval_dataset=evaluation)


def assert_as_undisturbed(undisturbed, out: Path) -> None:
    assert same_weights(out, undisturbed.out)
    assert same_weights(out, undisturbed.out, "best.pt")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert timeless(lines) == timeless(undisturbed.metrics)
    assert not list(out.glob("*.partial"))


@pytest.mark.parametrize("last_step", range(9))
def test_killed_after_any_step(tmp_path, dataset, evaluation, soft, undisturbed, last_step):
    def kill(step: int, loss: float) -> None:
        if step == last_step:
            raise Killed

    learned = {"soft_labels": soft, "eval_dataset": evaluation}
    with pytest.raises(Killed):
        train(CONFIG, dataset, out=tmp_path, on_step=kill, **learned)
    torch.manual_seed(99)
    torch.rand(7)
    train(CONFIG, dataset, out=tmp_path, **learned)
    assert_as_undisturbed(undisturbed, tmp_path)


@pytest.mark.parametrize("is_written", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", range(10))
def test_killed_at_any_write(
    tmp_path, dataset, evaluation, soft, undisturbed, monkeypatch, write, is_written
):
    """Of config.yaml, then metrics.jsonl, last.pt and maybe best.pt for each of three epochs."""
    inner, count = LocalFiles.put, 0

    def put(self, key, parts):
        nonlocal count
        count += 1
        if count == write + 1 and not is_written:
            (self.root / f"{key}.0123.partial").write_bytes(b"half of it")
            raise Killed
        inner(self, key, parts)
        if count == write + 1:
            raise Killed

    learned = {"soft_labels": soft, "eval_dataset": evaluation}
    monkeypatch.setattr(LocalFiles, "put", put)
    try:
        train(CONFIG, dataset, out=tmp_path, **learned)
    except Killed:
        pass
    else:
        assert count <= write  # this run wrote fewer files
    monkeypatch.undo()
    train(CONFIG, dataset, out=tmp_path, **learned)
    assert_as_undisturbed(undisturbed, tmp_path)


SCRIPT = """
import sys
from pathlib import Path
from logitbank.pipeline.student import train
from tests.pipeline.student.student_examples import small_dataset
from tests.pipeline.student.test_resume import CONFIG
train(CONFIG, small_dataset(), out=Path(sys.argv[1]), eval_dataset=small_dataset(40, split="test"))
"""


def test_killed_by_the_system(tmp_path, dataset):
    evaluation = small_dataset(40, split="test")
    undisturbed = train(CONFIG, dataset, out=tmp_path / "whole", eval_dataset=evaluation)
    out = tmp_path / "killed"
    job = subprocess.Popen([sys.executable, "-c", SCRIPT, str(out)])
    while not (out / "metrics.jsonl").exists() and job.poll() is None:
        time.sleep(0.002)
    job.send_signal(signal.SIGKILL)
    job.wait()
    train(CONFIG, dataset, out=out, eval_dataset=evaluation)
    assert_as_undisturbed(undisturbed, out)


# ---- Every method, and every option


VARIANTS = {
    **{loss: {"loss": loss} for loss in LOSSES},
    "cosine after a warm-up": {"sched": "cosine", "warmup_epochs": 1, "milestones": None},
    "channels last": {"channels_last": True},
    "accumulated": {"grad_accum_steps": 2},
    "averaged": {"model_ema": True, "model_ema_decay": 0.8},
    "compiled": {"torchcompile": "aot_eager", "epochs": 2},
}


def variant(name: str) -> TrainConfig:
    """Three epochs of three steps; SLD's own swapped logits come in with the second epoch."""
    return dataclasses.replace(CONFIG, **VARIANTS[name])


def stores_for(name: str, pair):
    views = loss_class(variant(name).loss or "kd").views
    return pair[:views]


def die(name: str, out: Path, weak: Path, strong: Path) -> None:
    """Train, and be killed by the system within the last epoch."""

    def kill(step: int, loss: float) -> None:
        if step == 3 * (config.epochs - 1) + 1:
            os.kill(os.getpid(), signal.SIGKILL)

    config = variant(name)
    stores = stores_for(name, SoftLabels.open_pair(weak, strong))
    train(config, small_dataset(), out=out, soft_labels=stores, on_step=kill)


# Optimisers and TensorBoard import the first two when they are first used.
PRELOADED = ["torch._dynamo", "torch.utils.tensorboard", "tests.pipeline.student.test_resume"]


@pytest.fixture(scope="module")
def server():
    """A process that has imported everything once, and forks before torch has any threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


@pytest.mark.parametrize("name", VARIANTS)
def test_killed_by_the_system_and_run_again(tmp_path, server, dataset, pair, name):
    where = [Path(soft.store.where) for soft in pair]
    job = server.Process(target=die, args=(name, tmp_path / "killed", *where))
    job.start()
    stores = stores_for(name, pair)
    whole = train(variant(name), dataset, out=tmp_path / "whole", soft_labels=stores)
    job.join()
    assert job.exitcode == -signal.SIGKILL
    done = len((tmp_path / "killed" / "metrics.jsonl").read_text().splitlines())
    assert done == len(whole.metrics) - 1
    again = train(variant(name), dataset, out=tmp_path / "killed", soft_labels=stores)
    assert timeless(again.metrics) == timeless(whole.metrics)
    for file in sorted(path.name for path in whole.out.glob("*.pt")):
        assert same_weights(again.out, whole.out, file)
    states = [torch.load(run.out / "last.pt", weights_only=True) for run in (again, whole)]
    for part in ("optimiser", "learned", "average"):
        one, other = (state["training"]["state"].get(part, {}) for state in states)
        assert tensors(one) == tensors(other)


def tensors(state: dict) -> list[bytes]:
    """All tensors of nested dictionaries, as their bytes."""
    found = []
    for value in state.values():
        if isinstance(value, dict):
            found += tensors(value)
        elif torch.is_tensor(value):
            found.append(value.numpy().tobytes())
    return found


@pytest.mark.parametrize("is_written", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("file", ["last.pt", "best.pt", "ema.pt"])
def test_killed_while_the_average_is_saved(tmp_path, dataset, soft, monkeypatch, file, is_written):
    run = variant("averaged")
    whole = train(run, dataset, out=tmp_path / "whole", soft_labels=soft)
    inner, count = LocalFiles.put, 0

    def put(self, key, parts):
        nonlocal count
        count += key == file
        if key == file and count == 2 and not is_written:
            raise Killed
        inner(self, key, parts)
        if key == file and count == 2:
            raise Killed

    monkeypatch.setattr(LocalFiles, "put", put)
    with pytest.raises(Killed):
        train(run, dataset, out=tmp_path / "run", soft_labels=soft)
    monkeypatch.undo()
    again = train(run, dataset, out=tmp_path / "run", soft_labels=soft)
    assert timeless(again.metrics) == timeless(whole.metrics)
    for name in ("last.pt", "best.pt", "ema.pt"):
        assert same_weights(again.out, whole.out, name)


def test_an_average_that_was_lost_at_the_end_is_written_again(tmp_path, dataset):
    run = dataclasses.replace(variant("averaged"), epochs=1)
    train(run, dataset, out=tmp_path)
    weights = weights_of(tmp_path, "ema.pt")
    (tmp_path / "ema.pt").unlink()
    train(run, dataset, out=tmp_path)
    found = weights_of(tmp_path, "ema.pt")
    assert all(torch.equal(found[key], weights[key]) for key in weights)


def test_a_finished_run_returns_at_once(undisturbed, dataset, evaluation, soft, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("nothing is left to do")

    monkeypatch.setattr("logitbank.pipeline.student.training.prepare", refuse)
    before = {path: path.stat().st_mtime_ns for path in undisturbed.out.glob("*.pt")}
    again = train(CONFIG, dataset, out=undisturbed.out, soft_labels=soft, eval_dataset=evaluation)
    assert again == undisturbed
    assert {path: path.stat().st_mtime_ns for path in undisturbed.out.glob("*.pt")} == before


def test_only_the_lacking_epochs_are_trained(tmp_path, dataset):
    def stop(where: Progress) -> None:
        if where.metrics is not None and where.epoch == 1:
            raise Killed

    with pytest.raises(Killed):
        train(CONFIG, dataset, out=tmp_path, progress=stop)
    epochs = set()
    train(CONFIG, dataset, out=tmp_path, progress=lambda where: epochs.add(where.epoch))
    assert epochs == {2}


def test_the_recorded_thread_count_is_used_again(tmp_path, dataset):
    config = small_config(student=DROPOUT_NET, epochs=2, threads=None)
    seen = []

    def stop(step: int, loss: float) -> None:
        seen.append(torch.get_num_threads())
        if len(seen) == 4:
            raise Killed

    torch.set_num_threads(1)
    try:
        with pytest.raises(Killed):
            train(config, dataset, out=tmp_path, on_step=stop)
        torch.set_num_threads(2)
        train(config, dataset, out=tmp_path, on_step=stop)
    finally:
        torch.set_num_threads(2)
    assert set(seen) == {1}
    assert len(seen) == 4 + 3


def test_another_configuration_stops_with_its_differences(undisturbed, dataset, soft):
    config = small_config(student=DROPOUT_NET, epochs=3, milestones=(1,), lr=0.1, seed=5)
    with pytest.raises(LogitbankError, match=r"lr is 0.05 there, 0.1 here; seed is 0 there, 5"):
        losses_of(config, dataset, undisturbed.out, soft_labels=soft)


def test_another_store_under_the_same_name_stops(tmp_path, undisturbed, dataset):
    other = small_store(tmp_path / "raw.zarr", dataset, small_teacher(tmp_path, seed=2))
    with pytest.raises(LogitbankError, match="learned from something else.*soft labels was"):
        losses_of(CONFIG, dataset, undisturbed.out, soft_labels=other)


def test_a_checkpoint_of_something_else_is_refused(tmp_path, dataset):
    train(CONFIG, dataset, out=tmp_path)
    torch.save({"model": {}}, tmp_path / "last.pt")
    with pytest.raises(LogitbankError, match="last.pt is not a checkpoint of a run"):
        train(CONFIG, dataset, out=tmp_path)


def test_a_run_needs_a_folder(tmp_path, dataset):
    (tmp_path / "run").write_text("")
    with pytest.raises(UsageError, match="run is a file: --out names a folder"):
        train(CONFIG, dataset, out=tmp_path / "run")


def test_events_of_attempts_that_were_killed_are_purged(tmp_path, dataset):
    first = bytearray()

    def stop(where: Progress) -> None:
        if where.metrics is not None and where.epoch == 1:
            (tmp_path / "last.pt").write_bytes(first)  # as if killed before epoch 1 was saved
            raise Killed
        if where.metrics is not None:
            first[:] = (tmp_path / "last.pt").read_bytes()

    with pytest.raises(Killed):
        train(CONFIG, dataset, out=tmp_path, progress=stop)
    train(CONFIG, dataset, out=tmp_path)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("loss")] == [0, 1, 2]
