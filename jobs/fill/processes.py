"""`--devices`: a process for each GPU of a workstation, each of them a part of the same store."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import IO, TextIO

from logitbank.jobs.command_line.stopping import STOP_SIGNALS, TRY_AGAIN, stopped_by, tell_stopped
from logitbank.jobs.fill.parts import Part
from logitbank.stores.errors import LogitbankError, UsageError

SECONDS_BETWEEN_LOOKS = 0.1
# A terminal that goes away is a request to stop: the processes would have nobody to tell.
PASSED_ON = {signal.SIGINT: signal.SIGINT, signal.SIGHUP: signal.SIGTERM} | {
    number: number for number in STOP_SIGNALS
}


def add_devices_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--devices`."""
    parser.add_argument(
        "--devices",
        type=device_list,
        metavar="0,1",
        help="a process for each of these CUDA devices, instead of --device",
    )


def device_list(text: str) -> list[str]:
    """Read a list of devices: numbers are those of CUDA devices.

    >>> device_list("0,1"), device_list("cpu,cpu"), device_list("")
    (['cuda:0', 'cuda:1'], ['cpu', 'cpu'], [])
    """
    names = [name.strip() for name in text.split(",")] if text else []
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 0,1")
    return [f"cuda:{name}" if name.isdecimal() else name for name in names]


@dataclass
class DeviceProcess:
    """A process that computes on a device; its output is passed on, each line under its name."""

    name: str
    job: str
    process: subprocess.Popen[str]
    error: str | None = None
    signals: set[signal.Signals] = field(default_factory=set)
    readers: list[threading.Thread] = field(default_factory=list)

    @classmethod
    def start(cls, name: str, job: str, words: Sequence[str], threads: int) -> DeviceProcess:
        """Start a job as a process of its own, which no terminal's Ctrl-C reaches."""
        process = subprocess.Popen(
            [sys.executable, "-m", "logitbank.jobs.cli", job, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            env={"OMP_NUM_THREADS": str(threads)} | os.environ | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        child = cls(name, job, process)
        for source, target in ((process.stdout, sys.stdout), (process.stderr, sys.stderr)):
            assert source is not None, "both are pipes"
            reader = threading.Thread(target=child._pass_on, args=(source, target), daemon=True)
            reader.start()
            child.readers.append(reader)
        return child

    def failed(self, received: Sequence[signal.Signals]) -> bool:
        """Return whether it has ended otherwise than done or, on one of these signals, stopped."""
        # One that comes while Python starts kills it: nothing is in hand then.
        return self.process.poll() not in (None, 0, TRY_AGAIN, *(-number for number in received))

    def join(self) -> None:
        """Wait until all of its output has been passed on."""
        for reader in self.readers:
            reader.join()

    def cause(self) -> str:
        """Return why it failed."""
        code = self.process.returncode
        ending = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return self.error or f"the process {ending}"

    def _pass_on(self, source: IO[str], target: TextIO) -> None:
        prefix = f"logitbank {self.job}: error: "
        for line in source:
            # The one line that tells of a failure or a signal is the whole job's to print.
            if line.startswith(prefix):
                self.error = line.removeprefix(prefix).strip()
            elif not line.startswith(stopped_by(self.job)):
                print(f"{self.name}: {line.rstrip()}", file=target, flush=True)


def run_on_devices(
    job: str, words: Sequence[str], devices: Sequence[str], part: Part | None = None
) -> int:
    """Run a job as a process for each device, and wait for all of them.

    SIGINT, SIGTERM and SIGUSR1 are passed on. Where one process fails the others finish the block
    in hand and stop.

    Args:
        job: its name.
        words: its arguments; each process gets them with its device and part behind them.
        devices: what the processes compute on, one each.
        part: the part of the store that they share; None for all of it.

    Returns:
        0 when all is done, 75 when a signal ended a process before.

    Raises:
        LogitbankError: a process failed; its device and its error are named.
        KeyboardInterrupt: it was interrupted, and so are the processes.
    """
    parts = (part or Part(0, 1)).split(len(devices))
    threads = max(1, (os.cpu_count() or 1) // len(parts))
    children: list[DeviceProcess] = []
    with _passed_on(children) as received:
        for device, share in zip(devices, parts, strict=True):
            flags = ["--devices", "", "--device", device, "--part", str(share)]
            name = device if devices.count(device) == 1 else f"{device} {share}"
            if not received:
                children.append(DeviceProcess.start(name, job, [*words, *flags], threads))
        for number in received:
            _signal_all(children, number)  # One that came while a process was being started.
        first = _first_failure(children, received)
    if len(children) == len(parts) and not any(child.process.returncode for child in children):
        return 0
    if signal.SIGINT in received:
        raise KeyboardInterrupt
    if first is not None:
        kind = UsageError if first.process.returncode == 2 else LogitbankError
        others = "; the other processes have stopped" if len(children) > 1 else ""
        raise kind(f"{first.name}: {first.cause()}{others}")
    return tell_stopped(job, received[0].name if received else "a signal")


def _first_failure(
    children: Sequence[DeviceProcess], received: Sequence[signal.Signals]
) -> DeviceProcess | None:
    """Wait for all processes, stop the others at a failure, and return what failed first."""
    first = None
    while any(child.process.poll() is None for child in children):
        first = first or next((child for child in children if child.failed(received)), None)
        if first is not None:
            _signal_all(children, signal.SIGTERM)
        time.sleep(SECONDS_BETWEEN_LOOKS)
    for child in children:
        child.join()
    return first or next((child for child in children if child.failed(received)), None)


def _signal_all(children: Sequence[DeviceProcess], number: signal.Signals) -> None:
    """Send a signal to the processes that are still there and have not had it."""
    for child in children:
        if number not in child.signals:
            child.signals.add(number)
            child.process.send_signal(number)


@contextmanager
def _passed_on(children: Sequence[DeviceProcess]) -> Iterator[list[signal.Signals]]:
    """Pass signals on to processes for the time of a `with` block, and yield those that came."""
    received: list[signal.Signals] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        passed = PASSED_ON[signal.Signals(number)]
        received.append(passed)
        _signal_all(children, passed)

    # One that is ignored, SIGHUP under nohup, stays so.
    heeded = [number for number in PASSED_ON if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in heeded}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
