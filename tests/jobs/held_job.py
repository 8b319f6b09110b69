"""A job as a process of its own that waits at a place of its code until a test lets it go on.

As a module it is that process: `python -m tests.jobs.held_job PLACE GATE WORDS...`. At the place it
leaves a file in the folder GATE, and waits for the file `go` there.
"""

from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.jobs.command import ROOT

PLACES = {
    "load": ("logitbank.jobs.cache", "open_samples"),
    "measure": ("logitbank.pipeline.teacher.stage", "TeacherStage.check"),
    "create": ("logitbank.stores.writer", "create_layout"),
    "unit": ("logitbank.stores.units", "UnitWriter.write"),
    "count": ("logitbank.jobs.fill.parts", "units_present"),
    "seal": ("logitbank.stores.writer", "StoreWriter.seal"),
}
SECONDS = 120.0


def wait_for(condition, what: str) -> None:
    """Wait until something is so; give up on it rather than hang."""
    give_up = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < give_up, f"waited in vain for {what}"
        time.sleep(0.01)


class HeldJob:
    """The process, from its start to its end, and what it prints."""

    def __init__(
        self,
        place: str,
        gate: Path,
        *words: object,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        gate.mkdir(exist_ok=True)
        self._gate = gate
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.jobs.held_job", place, str(gate), *map(str, words)],
            cwd=ROOT,
            env=os.environ | (variables or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_held(self) -> None:
        """Wait until it is at its place."""
        mark = self._gate / str(self.process.pid)
        wait_for(lambda: mark.exists() or self.process.poll() is not None, "the place")
        assert self.process.poll() is None, self.process.communicate()

    def let_go(self) -> None:
        """Let all that wait at this gate go on."""
        (self._gate / "go").touch()

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; give its exit code, its output and its complaints."""
        printed, complaints = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, printed, complaints


def hold(place: str, gate: Path) -> None:
    """Let the function at a place wait before it does anything."""
    module, path = PLACES[place]
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    function = getattr(owner, name)

    @functools.wraps(function)
    def held(*arguments, **settings):
        (gate / str(os.getpid())).touch()
        wait_for((gate / "go").exists, "go")
        return function(*arguments, **settings)

    setattr(owner, name, held)


if __name__ == "__main__":
    from logitbank.jobs.cli import main

    hold(sys.argv[1], Path(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
