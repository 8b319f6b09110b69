"""The machine that a measurement was made on, and its load."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy")


def load_average() -> float:
    """Return the load average of the last minute: processes that were running or waiting to."""
    return os.getloadavg()[0]


def describe_machine(load_before: float) -> dict[str, Any]:
    """Describe the machine; `load_before` is its load average when the work began."""
    packages = {name: version(name) for name in PACKAGES}
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "versions": {"python": platform.python_version(), **packages},
        "load_average": {"before": load_before, "after": load_average()},
    }


def machine_line(machine: dict[str, Any]) -> str:
    """Return a description as a line of text."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    load = machine["load_average"]
    return (
        f"{machine['cores']} cores of {machine['cpu']}; {versions}; load average "
        f"{load['before']:.2f} before, {load['after']:.2f} after; {machine['time']}"
    )


def _cpu_name() -> str:
    """Return the processor's model name, which Python itself finds on few systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
