"""A run's folder is empty, absent or a run, and one process's at a time."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from logitbank.pipeline.student import RunFolder, TrainConfig, require_run_folder, train
from logitbank.pipeline.student.resolution import resolved
from logitbank.pipeline.student.run_folder import LOCK
from logitbank.stores.errors import LogitbankError, UsageError
from logitbank.stores.locks import owner_lock as lock_module
from logitbank.stores.locks.owner import Owner
from logitbank.stores.locks.owner_lock import Pace
from tests.pipeline.student.student_examples import small_config, small_dataset
from tests.pipeline.student.student_nets import PLAIN_NET

CONFIG = small_config(student=PLAIN_NET, epochs=2)


@pytest.fixture(scope="module")
def dataset():
    return small_dataset()


@pytest.fixture(scope="module")
def config(dataset) -> TrainConfig:
    return resolved(CONFIG, in_memory=True, has_soft_labels=False)


def filled(folder: Path, *names: str, text: str = "") -> Path:
    """A folder of files of these names, and of folders where a name ends with a slash."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        else:
            path.write_text(text)
    return folder


def state(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns) for path in folder.rglob("*"))


# ---- What may hold a run


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["config.yaml.0123.partial"],
        ["last.pt.0123.partial", "events.out.tfevents.1764.host.1.2"],
        [".training.0", "..training.0.0123.now"],
        ["last.pt.damaged", "best.pt.earlier2"],
        [".DS_Store", ".nfs000012"],
    ],
    ids=lambda names: names[0] if names else "empty",
)
def test_an_empty_folder_or_what_a_killed_attempt_left_may(tmp_path, config, names):
    RunFolder.find(filled(tmp_path, *names), config)
    RunFolder.find(tmp_path / "absent" / "run", config)


FOREIGN = {
    "a store": (["zarr.json", "logits/zarr.json"], "is a store"),
    "a store that lost its root": (["logits/zarr.json", "crc/"], "holds crc/, logits/, but no run"),
    "images": ([f"{name}/0.png" for name in "abcde"], "holds a/, b/, c/ and 2 more, but no run"),
    "notes alone": (["notes.txt"], "holds notes.txt, but no run: name another --out"),
    "weights alone": (["best.pt", "metrics.jsonl"], "holds best.pt, metrics.jsonl, but no run"),
    "another's configuration": (["config.yaml", "code/"], "holds code/, config.yaml, but no run"),
    "a hidden folder": ([".git/HEAD"], "holds .git/, but no run"),
    "a folder for a file": (["last.pt/"], "last.pt is a folder, where a run has a file"),
}


@pytest.mark.parametrize(("names", "says"), FOREIGN.values(), ids=FOREIGN)
def test_anything_else_is_refused_and_left_as_it_is(tmp_path, dataset, names, says):
    out = filled(tmp_path / "out", *names, text="defaults: [base]\n")
    before = state(out)
    with pytest.raises(UsageError) as caught:
        train(CONFIG, dataset, out=out)
    assert says in str(caught.value)
    assert "name another --out" in str(caught.value)
    assert state(out) == before


def test_a_folder_in_a_store_is_refused_also_behind_a_link(tmp_path):
    store = filled(tmp_path / "raw.zarr", "zarr.json")
    (tmp_path / "link").symlink_to(store)
    for out in (store / "runs" / "s0", tmp_path / "link" / "s0"):
        with pytest.raises(UsageError, match="lies in the store .*raw.zarr, which holds its"):
            require_run_folder(out)


def test_what_is_no_folder_is_refused(tmp_path):
    filled(tmp_path, "file")
    (tmp_path / "gone").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name, says in {
        "file": "is a file: --out names a folder",
        "gone": "is a broken link: --out",
        "pipe": "is neither a file nor a folder: --out",
        "file/run": "can't be made: .*file is a file",
    }.items():
        with pytest.raises(UsageError, match=says):
            require_run_folder(tmp_path / name)


def test_a_run_with_notes_in_it_is_still_a_run(tmp_path, dataset):
    train(CONFIG, dataset, out=tmp_path)
    filled(tmp_path, "notes.txt", "plots/a.png", "mine.partial")
    assert len(train(CONFIG, dataset, out=tmp_path).metrics) == 2
    assert {"notes.txt", "plots", "mine.partial"} <= set(os.listdir(tmp_path))


# ---- A hostile configuration

HOSTILE = {
    "in itself": ("&a [*a]\n", "refers to itself"),
    "deep": ("[" * 20_000 + "\n", "is nested more than 32 deep"),
    "huge": ("student: " + "x" * 3_000_000 + "\n", "has 1,000,000 characters"),
    "a list": ("- 1\n", "must map fields to values"),
    "other types": ("student: cifar:resnet8\nlr: fast\n", "lr must be a number, not 'fast'"),
    "no number": ("student: cifar:resnet8\nlr: .nan\n", "lr must be above 0, not nan"),
}


@pytest.mark.parametrize(("text", "says"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_configuration_is_one_line(tmp_path, dataset, text, says):
    filled(tmp_path, "config.yaml", "last.pt", text=text)
    before = state(tmp_path)
    with pytest.raises(LogitbankError) as caught:
        train(CONFIG, dataset, out=tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "config.yaml"))
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert state(tmp_path) == before


def test_a_pipe_for_a_configuration_is_not_waited_for(tmp_path, config):
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(UsageError, match="config.yaml is neither a file nor a folder, where a run"):
        RunFolder.find(tmp_path, config)


# ---- One process at a time


def test_a_second_one_in_the_same_process_is_refused(tmp_path, dataset):
    out, errors = tmp_path / "run", []

    def second() -> None:
        try:
            train(CONFIG, dataset, out=out)
        except LogitbankError as error:
            errors.append(str(error))

    def start_second(step: int, loss: float) -> None:
        if step == 1:
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()

    assert len(train(CONFIG, dataset, out=out, on_step=start_second).metrics) == 2
    [line] = errors
    assert f"{out} is being written by process {os.getpid()} on " in line
    assert "since 20" in line


def test_its_lock_is_gone_at_the_end_and_nothing_is_left_of_what_failed(tmp_path, dataset):
    out = tmp_path / "runs" / "s0"
    with pytest.raises(LogitbankError):
        train(small_config(student="cifar:resnet9"), dataset, out=out)
    assert not (tmp_path / "runs").exists()
    train(CONFIG, dataset, out=out)
    assert not [name for name in os.listdir(out) if LOCK in name]


def test_it_begins_at_once_after_one_that_was_killed(tmp_path, dataset):
    killed = Owner("node", 1, 0.0, "")
    text = killed.to_text().replace('"node"', f'"{Owner.this_process().host}"')
    text = text.replace("null", f'"{Owner.this_process().machine}"', 1)
    filled(tmp_path, ".training.4", text=text)
    assert Owner.from_text(text).is_running() is False
    train(CONFIG, dataset, out=tmp_path)
    assert not [name for name in os.listdir(tmp_path) if LOCK in name]


def test_one_of_another_machine_is_told_and_waited_for(tmp_path, dataset, monkeypatch, caplog):
    filled(tmp_path, ".training.0", text=Owner("node7", 4711, 0.0, "").to_text())

    def sleep(seconds: float) -> None:
        os.utime(tmp_path / ".training.0", (0, 0))  # a minute goes by

    monkeypatch.setattr(lock_module.time, "sleep", sleep)
    train(CONFIG, dataset, out=tmp_path)
    [line] = [record.getMessage() for record in caplog.records]
    assert "was being written by process 4711 on node7, since 1970" in line
    assert "waiting for a sign of it, a minute at most" in line


def test_one_that_slept_and_lost_its_folder_stops_before_it_writes(tmp_path, dataset, monkeypatch):
    """As if this process and the next one were on two machines, and this one was suspended."""
    monkeypatch.setattr(Owner, "is_running", lambda self: None)
    other = small_config(student=PLAIN_NET, epochs=2)
    finished = []

    def sleep_long(step: int, loss: float) -> None:
        if step == 4:
            (lock,) = tmp_path.glob(".training.*")
            os.utime(lock, (0, 0))
            finished.append(train(other, dataset, out=tmp_path))
            written.extend(state(tmp_path))

    written: list[tuple[str, int]] = []
    with pytest.raises(LogitbankError, match="has lost its lock, while this process slept"):
        train(CONFIG, dataset, out=tmp_path, on_step=sleep_long)
    assert len(finished[0].metrics) == 2
    assert state(tmp_path) == written


def test_the_one_that_took_it_over_is_named(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr(Owner, "is_running", lambda self: None)
    folder = RunFolder(tmp_path)
    with folder.owned() as mine:
        mine.put_text("metrics.jsonl", "")
        (lock,) = tmp_path.glob(".training.*")
        os.utime(lock, (0, 0))
        with folder.owned() as next_one:
            for write in (mine.put_text, mine.set_aside):
                with pytest.raises(LogitbankError, match="has been taken over by process"):
                    write("metrics.jsonl", "mine")
            next_one.put_text("metrics.jsonl", "next\n")
    assert (tmp_path / "metrics.jsonl").read_text() == "next\n"


def test_an_owner_is_given_a_minute_by_touches_of_five_seconds():
    assert Pace() == Pace(touches=5.0, stale=60.0, tries=0.5)
