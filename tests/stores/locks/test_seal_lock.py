"""One process at a time seals, a dead one holds up nobody, and no writer is disturbed."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from logitbank.stores.errors import StoreError
from logitbank.stores.locks import seal_lock as module
from logitbank.stores.locks.seal_lock import seal_lock, wait_for_writers

FAR = 3_600.0


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_TRIES", 0.005)
    monkeypatch.setattr(module, "SECONDS_BETWEEN_TOUCHES", 0.02)


@pytest.fixture
def store(tmp_path) -> Path:
    (tmp_path / "raw.zarr").mkdir()
    return tmp_path / "raw.zarr"


def locks(store: Path) -> list[str]:
    return sorted(path.name for path in store.parent.iterdir() if path != store)


def make_old(path: Path) -> None:
    os.utime(path, (0, 0))


def in_thread(work) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def holds_soon(condition) -> bool:
    for _ in range(2_000):
        if condition():
            return True
        time.sleep(0.005)
    return False


def test_many_at_once_hold_it_one_after_the_other(store):
    inside, most, turns = 0, 0, 0
    guard = threading.Lock()

    def work():
        nonlocal inside, most, turns
        with seal_lock(store, stale_after=FAR):
            with guard:
                inside += 1
                most = max(most, inside)
            time.sleep(0.005)
            with guard:
                inside -= 1
                turns += 1

    threads = [in_thread(work) for _ in range(8)]
    for thread in threads:
        thread.join(60)
    assert (most, turns) == (1, 8)
    assert locks(store) == []


def test_an_error_inside_gives_it_back(store):
    def fail():
        with seal_lock(store):
            assert locks(store) == [".raw.zarr.sealing.0"]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert locks(store) == []


def test_the_lock_of_a_dead_process_is_taken_over_and_cleared_away(store):
    for generation in (0, 1):
        lock = store.with_name(f".raw.zarr.sealing.{generation}")
        lock.write_text("node7 4711\n")
        make_old(lock)
    with seal_lock(store):
        assert ".raw.zarr.sealing.2" in locks(store)
    assert locks(store) == []


def test_its_holder_touches_it_so_that_it_never_looks_dead(store):
    with seal_lock(store):
        (name,) = locks(store)
        for _ in range(3):
            make_old(store.with_name(name))
            assert holds_soon(lambda: store.with_name(name).stat().st_mtime > 0)


def test_a_holder_that_slept_for_too_long_leaves_the_next_ones_lock(store, monkeypatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_TOUCHES", FAR)
    with seal_lock(store):
        make_old(store.with_name(".raw.zarr.sealing.0"))
        taken, end = threading.Event(), threading.Event()

        def next_one():
            with seal_lock(store):
                taken.set()
                end.wait(60)

        thread = in_thread(next_one)
        assert taken.wait(60)
    assert locks(store) == [".raw.zarr.sealing.1"]
    end.set()
    thread.join(60)
    assert locks(store) == []


def test_a_lock_that_is_only_just_untouched_still_holds(store):
    lock = store.with_name(".raw.zarr.sealing.0")
    lock.write_text("node7 4711\n")
    taken = threading.Event()

    def other():
        with seal_lock(store, stale_after=FAR):
            taken.set()

    thread = in_thread(other)
    assert not taken.wait(0.2)
    lock.unlink()
    thread.join(60)
    assert taken.is_set()


def test_locks_of_other_stores_do_not_count(store):
    store.with_name(".raw.zarr.2.sealing.0").touch()
    store.with_name(".other.zarr.sealing.0").touch()
    with seal_lock(store, stale_after=FAR):
        assert ".raw.zarr.sealing.0" in locks(store)


def test_a_folder_that_takes_no_files_is_one_clear_error(tmp_path, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(StoreError, match=r"raw\.zarr\.sealing\.0 can't be written: Permission"):
        seal_lock(tmp_path / "raw.zarr").__enter__()


def test_nobody_writes(store):
    (store / "logits").mkdir()
    (store / "logits/0").touch()
    told = []
    wait_for_writers(store, waiting=told.append)
    assert told == []
    assert locks(store) == []


def test_old_temporary_files_are_of_the_dead(store):
    (store / "0.ab.partial").touch()
    make_old(store / "0.ab.partial")
    told = []
    wait_for_writers(store, waiting=told.append)
    assert told == []
    assert (store / "0.ab.partial").exists()


def test_a_writer_is_waited_for(store):
    (store / "top").mkdir()
    written = store / "top/0.ab.partial"
    written.touch()
    told, over = [], threading.Event()

    def wait():
        wait_for_writers(store, stale_after=FAR, waiting=told.append)
        over.set()

    thread = in_thread(wait)
    assert holds_soon(lambda: told == [1])
    assert not over.wait(0.1)
    written.rename(store / "top/0")
    thread.join(60)
    assert over.is_set()
    assert told == [1]
