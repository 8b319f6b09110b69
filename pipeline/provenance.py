"""Where, when and with which versions something was made."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version

from logitbank import __version__
from logitbank.stores.manifest import Provenance

PACKAGES = ("torch", "torchvision", "numpy", "zarr", "pillow")


def provenance_now(device: str, *, teacher_spec: str, parent: str | None = None) -> Provenance:
    """Record this moment, this machine's kind and the versions that shape pixels and logits."""
    versions = {"logitbank": __version__, "python": platform.python_version()}
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        device=device,
        versions=versions | {name: version(name) for name in PACKAGES},
        teacher_spec=teacher_spec,
        parent=parent,
    )
