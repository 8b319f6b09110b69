"""What killed processes leave beside a store: half-made folders, locks and clock files."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from logitbank.stores.files.interface import PARTIAL
from logitbank.stores.locks.owner_lock import CLOCK
from logitbank.stores.locks.seal_lock import remove_stale_locks


def remove_leftovers(location: str | Path) -> None:
    """Remove what killed processes have left beside an existing store.

    Nothing of it is needed once the store exists: a process that is still filling such a folder
    will find that another was first. Only a lock that its holder keeps touching stays.

    Raises:
        StoreError: something other than a lock has the name of one.
    """
    path = Path(os.path.realpath(location))
    name = re.escape(path.name)
    # Without dots in between, so that those of `raw.zarr` don't pass for those of `raw`.
    begun = re.compile(rf"\.{name}\.[^.]+{re.escape(PARTIAL)}")
    clock = re.compile(rf"(\.|\.\.){name}(\.sealing\.[0-9]+)?\.[^.]+{re.escape(CLOCK)}")
    with os.scandir(path.parent) as entries:
        beside = list(entries)
    for entry in beside:
        if begun.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        elif clock.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            Path(entry.path).unlink(missing_ok=True)
    remove_stale_locks(path)
