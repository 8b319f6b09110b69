"""A lock has one owner, a dead one never keeps it, and one that slept too long finds out."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from logitbank.stores.errors import StoreError
from logitbank.stores.locks import owner as owner_module
from logitbank.stores.locks.owner import Owner
from logitbank.stores.locks.owner_lock import Held, Pace, owner_lock

FAR = 3_600.0
PACE = Pace(touches=FAR, stale=FAR, tries=0.002)
ELSEWHERE = {"host": "node7", "machine": "another boot", "process": 4711}


class RefusedError(Exception):
    """What a test does when it is told that another has the lock."""


def refuse(held: Held) -> None:
    raise RefusedError(held)


def refuse_if_alive(held: Held) -> None:
    if held.is_alive:
        refuse(held)


@pytest.fixture
def stem(tmp_path) -> Path:
    return tmp_path / ".training"


def left_behind(stem: Path, generation: int = 0, **changes: object) -> Path:
    """A lock of an owner like this process, but for some changes."""
    path = stem.with_name(f"{stem.name}.{generation}")
    path.write_text(dataclasses.replace(Owner.this_process(), **changes).to_text())
    return path


def dead_process() -> int:
    job = subprocess.Popen([sys.executable, "-c", ""])
    job.wait()
    return job.pid


# ---- Who is there


def test_an_owner_is_read_as_it_was_written():
    owner = Owner.this_process()
    assert Owner.from_text(owner.to_text()) == owner
    assert (owner.process, owner.is_running()) == (os.getpid(), True)
    assert f"process {os.getpid()} on {owner.host}, since 20" in owner.describe()


@pytest.mark.parametrize(
    "text", ["", "node7 4711\n", "{}", "[1]", "[" * 9_999, '{"host": 1', "\0\0", "null"]
)
def test_anything_else_is_no_owner(text):
    assert Owner.from_text(text) is None


@pytest.mark.parametrize("process", ["one", -1, 0, 2**40, None])
def test_an_owner_has_the_number_of_a_process(process):
    owner = dataclasses.replace(Owner.this_process(), process=process)
    assert Owner.from_text(owner.to_text()) is None


def test_only_the_same_system_can_tell_that_a_process_is_gone():
    gone = dataclasses.replace(Owner.this_process(), process=dead_process())
    assert gone.is_running() is False
    for other in ({"host": "node7"}, {"machine": "another container"}, {"machine": None}):
        assert dataclasses.replace(gone, **other).is_running() is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_number_that_was_given_again_is_another_process():
    assert dataclasses.replace(Owner.this_process(), began=1).is_running() is False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_that_has_ended_but_nobody_asked_how_is_gone():
    job = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = dataclasses.replace(
        Owner.this_process(), process=job.pid, began=owner_module._began(job.pid)
    )
    assert owner.is_running() is True
    job.kill()
    os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOWAIT)
    assert owner.is_running() is False
    job.communicate()


# ---- Who gets it


def test_it_is_held_and_given_back(stem):
    with owner_lock(stem, pace=PACE) as lock:
        assert [path.name for path in stem.parent.iterdir()] == [".training.0"]
        assert lock.is_held()
        assert lock.next_owner().process == os.getpid()
    assert not lock.is_held()
    assert list(stem.parent.iterdir()) == []


def test_a_running_process_keeps_it_however_long_it_sleeps(stem):
    with owner_lock(stem, pace=PACE):
        os.utime(f"{stem}.0", (0, 0))
        with pytest.raises(RefusedError) as caught, owner_lock(stem, pace=PACE, busy=refuse):
            pass
    held = caught.value.args[0]
    assert (held.is_alive, held.owner.process) == (True, os.getpid())


def test_a_dead_one_of_this_machine_blocks_nobody(stem):
    left_behind(stem, process=dead_process())
    with owner_lock(stem, pace=PACE, busy=refuse):
        assert [path.name for path in stem.parent.iterdir()] == [".training.1"]


def test_one_of_another_machine_is_waited_for_until_it_is_stale(stem):
    path = left_behind(stem, **ELSEWHERE)
    looks = []

    def look(held: Held) -> None:
        looks.append(held)
        if len(looks) == 3:
            os.utime(path, (0, 0))

    with owner_lock(stem, pace=PACE, busy=look):
        pass
    assert [held.is_alive for held in looks[:3]] == [False] * 3
    assert looks[0].owner.host == "node7"


def test_one_of_another_machine_that_touches_it_lives(stem):
    path = left_behind(stem, **ELSEWHERE)
    looks = []

    def look(held: Held) -> None:
        looks.append(held)
        refuse_if_alive(held)
        os.utime(path, (time.time() + 9, time.time() + 9))

    with pytest.raises(RefusedError), owner_lock(stem, pace=PACE, busy=look):
        pass
    assert [held.is_alive for held in looks] == [False, True]
    assert path.exists()


def test_a_lock_that_can_not_be_read_is_judged_by_its_touches(stem):
    path = stem.with_name(".training.0")
    path.touch()
    with pytest.raises(RefusedError), owner_lock(stem, pace=PACE, busy=refuse):
        pass
    os.utime(path, (0, 0))
    with owner_lock(stem, pace=PACE, busy=refuse):
        pass
    assert list(stem.parent.iterdir()) == []


def test_one_that_slept_for_too_long_finds_it_lost(stem, monkeypatch):
    monkeypatch.setattr(Owner, "is_running", lambda self: None)  # as if each had its own machine
    with owner_lock(stem, pace=PACE) as mine:
        assert mine.is_held()
        os.utime(f"{stem}.0", (0, 0))
        with owner_lock(stem, pace=PACE, busy=refuse) as other:
            assert not mine.is_held()
            assert mine.next_owner() == Owner.from_text(stem.with_name(".training.1").read_text())
            mine.touch()
            mine.release()
            assert other.is_held()
    assert not mine.is_held()
    assert mine.next_owner() is None


def test_of_two_generations_made_at_once_neither_is_taken_blindly(stem):
    """A look at the folder may be old when the file is made: one that is held comes to light."""
    looks = iter([[2], [0, 3], [0]])
    left_behind(stem, 2, process=dead_process())

    def generations(_: Path) -> list[int]:
        found = next(looks)
        if found == [0, 3]:
            left_behind(stem, 0)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("logitbank.stores.locks.owner_lock._generations", generations)
        with pytest.raises(RefusedError), owner_lock(stem, pace=PACE, busy=refuse):
            pass
    assert stem.with_name(".training.0").exists()
    assert not stem.with_name(".training.3").exists()


def test_many_at_once_have_it_one_after_the_other(stem):
    inside, most, turns = 0, 0, 0
    guard = threading.Lock()

    def work() -> None:
        nonlocal inside, most, turns
        with owner_lock(stem, pace=PACE):
            with guard:
                inside += 1
                most = max(most, inside)
            with guard:
                inside -= 1
                turns += 1

    threads = [threading.Thread(target=work, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (most, turns) == (1, 6)


def test_a_folder_that_is_gone_is_one_clear_error(tmp_path):
    with (
        pytest.raises(StoreError, match=r"\.training can't be written: No such"),
        owner_lock(tmp_path / "gone" / ".training"),
    ):
        pass
