"""SIGTERM and SIGUSR1 finish the block in hand and exit with 75; the same command then goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from logitbank.jobs.command_line.stopping import (
    STOP_SIGNALS,
    StopRequested,
    stop_signals,
    until_stopped,
)
from logitbank.stores.layout import all_units
from logitbank.stores.reader import Store
from logitbank.stores.verify import verify_store
from tests.jobs.cache.test_killed import same_store
from tests.jobs.command import ROOT, done
from tests.jobs.conftest import cache_words
from tests.jobs.fill.test_parts import correct_words, ledger
from tests.jobs.held_job import HeldJob, wait_for

UNITS = 12


def send(number: int) -> None:
    os.kill(os.getpid(), number)


# Within this process


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_with_nothing_in_hand_it_ends_where_it_stands(number, capfd):
    reached = []

    def work(stop):
        send(number)
        reached.append("the next line")

    assert until_stopped("cache", work) == 75
    assert reached == []
    cause = f"stopped by {number.name}"
    assert capfd.readouterr().err == (
        f"logitbank cache: {cause}: run the same command again to go on from here\n"
    )


def test_a_block_in_hand_is_finished_first():
    asked = []

    def work(stop):
        with stop.blocks_in_hand() as stopped:
            for _ in range(3):
                asked.append(stopped())
                send(signal.SIGUSR1)
        asked.append("after the block")

    assert until_stopped("cache", work) == 75
    assert asked == [False, True, True]


def test_nothing_is_begun_after_a_signal_that_a_library_swallowed():
    def work(stop):
        with contextlib.suppress(BaseException):
            send(signal.SIGTERM)
        with stop.blocks_in_hand():
            raise AssertionError("begun")

    assert until_stopped("cache", work) == 75


def test_an_import_under_way_is_finished_first(tmp_path, monkeypatch):
    """Torch's would abort the process; here the module's code goes on after the signal."""
    (tmp_path / "sends_a_signal.py").write_text(
        "import os, signal, time\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "time.sleep(0.2)\n"
        "whole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    reached = []

    def work(stop):
        import sends_a_signal

        reached.append(sends_a_signal.whole)
        threading.Event().wait(60)
        reached.append("the end")

    assert until_stopped("cache", work) == 75
    assert reached == [True]


def test_a_second_signal_does_not_disturb_the_end():
    tidied = []

    def work(stop):
        try:
            send(signal.SIGTERM)
        finally:
            send(signal.SIGTERM)
            tidied.append(True)

    assert until_stopped("cache", work) == 75
    assert tidied == [True]


def test_an_error_in_the_block_in_hand_is_the_one_that_is_told():
    def work(stop):
        with stop.blocks_in_hand():
            send(signal.SIGTERM)
            raise ValueError("bad image")

    with pytest.raises(ValueError, match="bad image"):
        until_stopped("cache", work)


def test_no_library_takes_it_for_a_failure():
    assert not issubclass(StopRequested, Exception)


def test_without_a_signal_nothing_changes():
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    assert until_stopped("cache", lambda stop: None) == 0
    assert until_stopped("cache", lambda stop: 3) == 3
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_a_job_in_another_thread_heeds_none():
    said = []

    def work():
        with stop_signals() as stop, stop.blocks_in_hand() as stopped:
            said.append(stopped())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == [False]


# Real processes


def stopped_at(place: str, gate: Path, number: int, words: list[object]) -> str:
    """Signal a job that waits at a place, then let it go on; it must exit with 75."""
    job = HeldJob(place, gate, *words)
    job.wait_until_held()
    job.process.send_signal(number)
    job.let_go()
    code, printed, complaints = job.end()
    assert code == 75, (code, printed, complaints)
    last = complaints.splitlines()[-1]
    name = signal.Signals(number).name
    assert last.endswith(f": stopped by {name}: run the same command again to go on from here")
    assert "Traceback" not in complaints
    return complaints


@pytest.fixture(scope="module")
def corrected(raw, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("corrected") / "sort.zarr"
    done(*correct_words(raw, path))
    return path


@pytest.mark.parametrize(
    ("kind", "number", "part"),
    [
        ("cache", signal.SIGTERM, None),
        ("cache", signal.SIGUSR1, "1/2"),
        ("correct", signal.SIGUSR1, None),
        ("correct", signal.SIGTERM, "1/2"),
    ],
)
def test_the_block_in_hand_is_finished(kind, number, part, raw, corrected, teacher, tmp_path):
    out, wanted = tmp_path / "out.zarr", raw if kind == "cache" else corrected
    words = correct_words(raw, out) if kind == "correct" else cache_words(teacher, out)
    words = words if part is None else [*words, "--part", part]
    stopped_at("unit", tmp_path / "gate", number, words)
    share = UNITS if part is None else UNITS // 2
    finished = ledger(out)
    assert 0 < len(finished) < share
    assert list(out.rglob("*.partial")) == []
    done(*words)
    assert {unit: ledger(out)[unit] for unit in finished} == finished
    if part is not None:
        done(*words[:-1], "0/2")
    same_store(out, wanted)
    assert len(all_units(Store.open(out).manifest)) == UNITS


@pytest.mark.parametrize("place", ["load", "measure"])
def test_before_the_first_block(place, raw, teacher, tmp_path):
    out = tmp_path / "raw.zarr"
    stopped_at(place, tmp_path / "gate", signal.SIGTERM, cache_words(teacher, out))
    assert [path.name for path in tmp_path.iterdir()] == ["gate"]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what is loaded can't be seen")
def test_while_torch_is_being_imported(teacher, tmp_path):
    """An exception out of its C++ would abort the process."""
    words = [sys.executable, "-m", "logitbank.jobs.cli", *cache_words(teacher, tmp_path / "x.zarr")]
    job = subprocess.Popen([str(word) for word in words], cwd=ROOT, stderr=subprocess.PIPE)
    maps = Path(f"/proc/{job.pid}/maps")
    wait_for(lambda: b"libtorch" in maps.read_bytes(), "torch")
    job.send_signal(signal.SIGTERM)
    _, complaints = job.communicate(timeout=120)
    assert job.returncode == 75, complaints
    assert complaints.endswith(
        b"stopped by SIGTERM: run the same command again to go on from here\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_while_sealing(raw, corrected, tmp_path):
    """The lock is given back, and the store is one that the same command seals."""
    out = tmp_path / "sort.zarr"
    words = correct_words(raw, out, "0/1")
    stopped_at("seal", tmp_path / "gate", signal.SIGTERM, words)
    assert verify_store(out) != []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate", "sort.zarr"]
    done(*words)
    same_store(out, corrected)
