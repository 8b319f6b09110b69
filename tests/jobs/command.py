"""Running the command line in tests, within this process or as one that can be killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from logitbank.jobs.cli import main

ROOT = Path(__file__).resolve().parents[2]


def run(*words: object) -> int:
    """Run a job in this process and give its exit code."""
    return main([str(word) for word in words])


def done(*words: object) -> None:
    """Run a job that must end well."""
    assert run(*words) == 0, words


def start(*words: object) -> subprocess.Popen[bytes]:
    """Start a job as a process of its own, silent."""
    return subprocess.Popen(
        [sys.executable, "-m", "logitbank.jobs.cli", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
