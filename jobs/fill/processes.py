"""`--devices`: a process for each GPU of a workstation, each computing a part of the store."""

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

from logitbank.jobs.command_line.stopping import (
    STOP_SIGNALS,
    TRY_AGAIN,
    report_stopped,
    stopped_prefix,
)
from logitbank.jobs.fill.parts import Part
from logitbank.stores.errors import LogitbankError, UsageError

SECONDS_BETWEEN_POLLS = 0.1
# A terminal that goes away is a request to stop: nobody would read what the processes print.
PASSED_ON = {signal.SIGINT: signal.SIGINT, signal.SIGHUP: signal.SIGTERM} | {
    number: number for number in STOP_SIGNALS
}


def add_devices_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--devices`."""
    parser.add_argument(
        "--devices",
        type=device_list,
        metavar="0,1",
        help="run a process on each of these CUDA devices, instead of --device",
    )


def device_list(text: str) -> list[str]:
    """Parse a list of devices; numbers are those of CUDA devices.

    >>> device_list("0,1"), device_list("cpu,cpu"), device_list("")
    (['cuda:0', 'cuda:1'], ['cpu', 'cpu'], [])
    """
    names = [name.strip() for name in text.split(",")] if text else []
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 0,1")
    return [f"cuda:{name}" if name.isdecimal() else name for name in names]


@dataclass
class DeviceProcess:
    """A process that computes on a device; its output is passed on, its name before each line."""

    name: str
    job: str
    process: subprocess.Popen[str]
    error: str | None = None
    signals: set[signal.Signals] = field(default_factory=set)
    readers: list[threading.Thread] = field(default_factory=list)

    @classmethod
    def start(cls, name: str, job: str, argv: Sequence[str], threads: int) -> DeviceProcess:
        """Start a job in a session of its own, so that Ctrl-C in the terminal does not reach it."""
        process = subprocess.Popen(
            [sys.executable, "-m", "logitbank.jobs.cli", job, *argv],
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
        """Return whether it has ended, neither done nor stopped by one of these signals."""
        # A signal that arrives while Python starts kills it: nothing is in hand then.
        return self.process.poll() not in (None, 0, TRY_AGAIN, *(-number for number in received))

    def join(self) -> None:
        """Wait until all of its output is passed on."""
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
            # The line on a failure or a signal is printed once, by the process that started them.
            if line.startswith(prefix):
                self.error = line.removeprefix(prefix).strip()
            elif not line.startswith(stopped_prefix(self.job)):
                print(f"{self.name}: {line.rstrip()}", file=target, flush=True)


def run_on_devices(
    job: str, argv: Sequence[str], devices: Sequence[str], part: Part | None = None
) -> int:
    """Run a job as a process for each device, and wait for all of them.

    SIGINT, SIGTERM and SIGUSR1 are passed on. If one process fails, the others finish the block
    in hand and stop.

    Args:
        job: its name.
        argv: its arguments; each process gets its device and part appended.
        devices: the device of each process.
        part: the part of the store that the processes divide; None for all of it.

    Returns:
        0 if all is done, 75 if a signal stopped a process before.

    Raises:
        LogitbankError: a process failed; its device and its error are named.
        KeyboardInterrupt: Ctrl-C was passed on.
    """
    parts = (part or Part(0, 1)).split(len(devices))
    threads = max(1, (os.cpu_count() or 1) // len(parts))
    children: list[DeviceProcess] = []
    with _passed_on(children) as received:
        for device, share in zip(devices, parts, strict=True):
            flags = ["--devices", "", "--device", device, "--part", str(share)]
            name = device if devices.count(device) == 1 else f"{device} {share}"
            if not received:
                children.append(DeviceProcess.start(name, job, [*argv, *flags], threads))
        for number in received:
            _signal_all(children, number)  # It may have come while a process was being started.
        first = _first_failure(children, received)
    if len(children) == len(parts) and not any(child.process.returncode for child in children):
        return 0
    if signal.SIGINT in received:
        raise KeyboardInterrupt
    if first is not None:
        kind = UsageError if first.process.returncode == 2 else LogitbankError
        others = "; the other processes have stopped" if len(children) > 1 else ""
        raise kind(f"{first.name}: {first.cause()}{others}")
    return report_stopped(job, received[0].name if received else "a signal")


def _first_failure(
    children: Sequence[DeviceProcess], received: Sequence[signal.Signals]
) -> DeviceProcess | None:
    """Wait for all processes, stopping the others at a failure; return the first that failed."""
    first = None
    while any(child.process.poll() is None for child in children):
        first = first or next((child for child in children if child.failed(received)), None)
        if first is not None:
            _signal_all(children, signal.SIGTERM)
        time.sleep(SECONDS_BETWEEN_POLLS)
    for child in children:
        child.join()
    return first or next((child for child in children if child.failed(received)), None)


def _signal_all(children: Sequence[DeviceProcess], number: signal.Signals) -> None:
    """Send a signal, once, to each process that is still running."""
    for child in children:
        if number not in child.signals:
            child.signals.add(number)
            child.process.send_signal(number)


@contextmanager
def _passed_on(children: Sequence[DeviceProcess]) -> Iterator[list[signal.Signals]]:
    """Yield the list of signals received, and passed on to processes, within a `with` block."""
    received: list[signal.Signals] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        passed = PASSED_ON[signal.Signals(number)]
        received.append(passed)
        _signal_all(children, passed)

    # An ignored signal, such as SIGHUP under nohup, stays ignored.
    handled = [number for number in PASSED_ON if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in handled}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
