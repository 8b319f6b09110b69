"""Where, when and with which versions something was made."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from logitbank import __version__
from logitbank.stores.manifest import Provenance

PACKAGES = ("torch", "torchvision", "numpy", "zarr", "pillow")

# What a computation spread over machines depends on, to the bit or by its protocol.
SHARED_PACKAGES = ("dask", "distributed", "numba", "numpy", "pillow", "torch", "torchvision")


def shared_versions() -> dict[str, str]:
    """Return this machine's versions of what must be the same on all machines of a computation.

    A build's own suffix, as in torch 2.14.1+cpu, is left out: the machine that distributes tasks
    may have no GPU.
    """
    python = ".".join(platform.python_version_tuple()[:2])
    found = {"python": python, "logitbank": __version__}
    for name in SHARED_PACKAGES:
        try:
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            found[name] = "none"
    return found


def version_differences(found: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Return the packages whose versions differ.

    >>> version_differences({"numpy": "1.26.4"}, {"numpy": "2.1.0"})
    ['numpy 1.26.4 there, 2.1.0 here']
    """
    return [
        f"{name} {found.get(name, 'none')} there, {version} here"
        for name, version in wanted.items()
        if found.get(name, "none") != version
    ]


def provenance_now(device: str, *, teacher_spec: str, parent: str | None = None) -> Provenance:
    """Return the time, this machine's kind and the versions that affect pixels and logits."""
    versions = {"logitbank": __version__, "python": platform.python_version()}
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        device=device,
        versions=versions | {name: version(name) for name in PACKAGES},
        teacher_spec=teacher_spec,
        parent=parent,
    )
