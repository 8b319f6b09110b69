"""`--devices`: a process for each device makes the store that one process makes.

There is no GPU here: `--devices cpu,cpu` names the CPU twice, and the processes are real.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from logitbank.jobs.cli import main
from logitbank.jobs.fill import processes
from logitbank.jobs.fill.processes import device_list, run_on_devices
from logitbank.stores.errors import LogitbankError, UsageError
from tests.jobs.cache.test_killed import same_store
from tests.jobs.command import ROOT, done, run
from tests.jobs.conftest import cache_words
from tests.jobs.fill.test_parts import correct_words, ledger
from tests.jobs.held_job import wait_for


@pytest.fixture(scope="module")
def corrected(raw, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("corrected") / "sort.zarr"
    done(*correct_words(raw, path))
    return path


def test_numbers_are_cuda_devices():
    assert device_list("0,1, 7") == ["cuda:0", "cuda:1", "cuda:7"]
    assert device_list("cpu,cuda:1") == ["cpu", "cuda:1"]
    assert device_list("") == []
    with pytest.raises(argparse.ArgumentTypeError, match="is not a list such as 0,1"):
        device_list("0,,1")


# Which processes


@pytest.fixture
def started(monkeypatch) -> list[list[str]]:
    """The arguments of the processes that are started; they do nothing."""
    found: list[list[str]] = []
    popen = subprocess.Popen

    def start(command, **settings):
        found.append(command[3:])
        return popen([sys.executable, "-c", "print('hello')"], **settings)

    monkeypatch.setattr(processes.subprocess, "Popen", start)
    return found


def test_each_device_is_a_part(started, tmp_path, capfd):
    assert run("correct", "raw.zarr", "--correction", "sort", "--out", "x", "--devices", "0,3") == 0
    given = ["correct", "raw.zarr", "--correction", "sort", "--out", "x", "--devices", "0,3"]
    assert started == [
        [*given, "--devices", "", "--device", "cuda:0", "--part", "0/2"],
        [*given, "--devices", "", "--device", "cuda:3", "--part", "1/2"],
    ]
    assert sorted(capfd.readouterr().out.splitlines()) == ["cuda:0: hello", "cuda:3: hello"]


def test_the_devices_of_a_machine_share_its_part(started):
    words = ["correct", "r", "--correction", "sort", "--out", "x", "--devices", "0,1"]
    assert run(*words, "--part", "2/3") == 0
    assert [command[-1] for command in started] == ["4/6", "5/6"]


def test_settings_of_a_file_reach_the_processes(started, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("devices: 0,1\ncorrection: sort\nout: x\n")
    assert run("correct", "raw.zarr", "--config", path) == 0
    assert [command[:4] for command in started] == [
        ["correct", "raw.zarr", "--config", str(path)]
    ] * 2


def test_a_store_without_rows_has_nothing_to_share(started, capfd):
    words = ["correct", "r", "--correction", "sort", "--out", "x", "--devices", "0,1"]
    assert run(*words, "--virtual") == 2
    assert "--devices can't be given with --virtual" in capfd.readouterr().err
    assert started == []


# What they come to


class Ends:
    """Processes that run a line of Python each, one a device."""

    def __init__(self, monkeypatch, *lines: str) -> None:
        remaining, popen = list(lines), subprocess.Popen

        def start(command, **settings):
            return popen([sys.executable, "-c", remaining.pop(0)], **settings)

        monkeypatch.setattr(processes.subprocess, "Popen", start)
        self.devices = [f"cuda:{index}" for index in range(len(lines))]

    def code(self) -> int:
        return run_on_devices("cache", (), self.devices)


FINISHES_ITS_BLOCK = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(75))
while True: time.sleep(0.01)
"""
FAILS = """
import sys
print("a tenth is done", file=sys.stderr)
sys.exit("logitbank cache: error: no such image")
"""


def test_one_that_fails_ends_the_others_with_one_line(monkeypatch, capfd):
    ends = Ends(monkeypatch, FINISHES_ITS_BLOCK, FAILS, FINISHES_ITS_BLOCK)
    with pytest.raises(LogitbankError) as failure:
        ends.code()
    assert str(failure.value) == "cuda:1: no such image; the other processes have stopped"
    assert not isinstance(failure.value, UsageError)
    assert capfd.readouterr().err == "cuda:1: a tenth is done\n"


def test_a_usage_error_stays_one(monkeypatch):
    line = "import sys; print('logitbank cache: error: bad', file=sys.stderr); sys.exit(2)"
    with pytest.raises(UsageError, match="cuda:0: bad"):
        Ends(monkeypatch, line, FINISHES_ITS_BLOCK).code()


def test_one_that_is_killed_says_so(monkeypatch):
    line = "import os; os.kill(os.getpid(), 9)"
    with pytest.raises(LogitbankError, match="cuda:1: the process was killed by SIGKILL; the oth"):
        Ends(monkeypatch, FINISHES_ITS_BLOCK, line).code()


@pytest.mark.parametrize(("codes", "worst"), [((0, 0), 0), ((0, 75), 75), ((75, 0), 75)])
def test_the_worst_exit_code(codes, worst, monkeypatch):
    assert Ends(monkeypatch, *(f"raise SystemExit({code})" for code in codes)).code() == worst


def test_a_signal_while_a_process_is_being_started_reaches_it_and_starts_no_other(monkeypatch):
    ends = Ends(monkeypatch, "import time; time.sleep(60)", "raise SystemExit(1)")
    popen = subprocess.Popen

    def start(*arguments, **settings):
        process = popen(*arguments, **settings)
        os.kill(os.getpid(), signal.SIGTERM)
        return process

    monkeypatch.setattr(processes.subprocess, "Popen", start)
    assert ends.code() == 75


def test_work_that_is_done_is_done_whatever_signal_came(monkeypatch):
    line = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True)"
    )
    line += "; import time; time.sleep(0.3)"
    ends = Ends(monkeypatch, line)
    pass_on = processes.DeviceProcess._pass_on

    def signalled(child, source, target):
        if source is child.process.stdout:
            assert source.readline() == "ready\n"
            os.kill(os.getpid(), signal.SIGTERM)
        pass_on(child, source, target)

    monkeypatch.setattr(processes.DeviceProcess, "_pass_on", signalled)
    assert ends.code() == 0


# Real jobs


def test_cache_on_two_devices(raw, teacher, tmp_path, capfd):
    out = tmp_path / "raw.zarr"
    assert main([str(word) for word in cache_words(teacher, out, devices="cpu,cpu")]) == 0
    printed = capfd.readouterr().out
    assert printed.count("checking and sealing") == 1
    assert {line.split(":")[0] for line in printed.splitlines()} == {"cpu 0/2", "cpu 1/2"}
    same_store(out, raw)


def test_a_real_failure_is_one_clear_line(teacher, tmp_path, capfd):
    """Weights that say nothing: the first block's logits are not finite."""
    model = torch.load(teacher.split("@")[1], weights_only=True)
    model["model"] = {name: value * torch.nan for name, value in model["model"].items()}
    torch.save(model, tmp_path / "broken.pt")
    broken = f"cifar:resnet8@{tmp_path / 'broken.pt'}"
    assert run(*cache_words(broken, tmp_path / "raw.zarr", devices="cpu,cpu")) == 1
    complaints = capfd.readouterr().err
    assert complaints.count("error") == 1
    last = complaints.splitlines()[-1]
    assert last.startswith("logitbank cache: error: cpu ")
    assert "not finite" in last
    assert "Traceback" not in complaints


def held_parent(gate: Path, words: list[object]) -> subprocess.Popen[str]:
    """Start a job on two devices whose processes wait before each unit."""
    driver = (
        "import json, subprocess, sys\n"
        "from logitbank.jobs.fill import processes as module\n"
        "from logitbank.jobs.cli import main\n"
        "popen, gate, words = subprocess.Popen, sys.argv[1], json.loads(sys.argv[2])\n"
        "def start(command, **settings):\n"
        "    held = [command[0], '-m', 'tests.jobs.held_job', 'unit', gate, *command[3:]]\n"
        "    return popen(held, **settings)\n"
        "module.subprocess.Popen = start\n"
        "sys.exit(main(words))\n"
    )
    gate.mkdir()
    return subprocess.Popen(
        [sys.executable, "-c", driver, str(gate), json.dumps([str(word) for word in words])],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_signals_are_passed_on(number, raw, corrected, tmp_path):
    out, gate = tmp_path / "sort.zarr", tmp_path / "gate"
    words = [*correct_words(raw, out), "--devices", "cpu,cpu"]
    parent = held_parent(gate, words)
    wait_for(lambda: len(list(gate.iterdir())) == 2 or parent.poll() is not None, "both")
    children = [int(path.name) for path in gate.iterdir()]
    assert len(children) == 2, parent.communicate()
    parent.send_signal(number)
    (gate / "go").touch()
    printed, complaints = parent.communicate(timeout=120)
    assert parent.returncode == (130 if number == signal.SIGINT else 75), (printed, complaints)
    assert "Traceback" not in complaints
    lines = [line for line in complaints.splitlines() if "go on from here" in line]
    cause = "error: interrupted" if number == signal.SIGINT else f"stopped by {number.name}"
    assert lines == [f"logitbank correct: {cause}: run the same command again to go on from here"]
    assert complaints.endswith(f"{lines[0]}\n")
    assert len(ledger(out)) < 12
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
    done(*words)
    same_store(out, corrected)
