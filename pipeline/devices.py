"""Where torch computes, and with how many threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from logitbank.stores.errors import UsageError


def usable_device(name: str | torch.device | None) -> torch.device:
    """Return the device of this name; by default CUDA if there is one, else the CPU.

    Raises:
        UsageError: torch knows no such device, or the machine has none.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device {str(name)!r}: torch knows cpu, cuda, cuda:1 and so on") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(
            f"device {str(name)!r}: torch finds {torch.cuda.device_count()} CUDA devices"
        )
    if device.type not in ("cpu", "cuda") and not _computes(device):
        raise UsageError(f"device {name!r}: torch can't compute on it here: use cpu")
    return device


def _computes(device: torch.device) -> bool:
    """Return whether a device computes values: some need another torch, `meta` has none."""
    try:
        return torch.ones(1, device=device).add(1).tolist() == [2]
    except (RuntimeError, AssertionError, ImportError):
        return False


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Set torch's number of threads, and restore it afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
