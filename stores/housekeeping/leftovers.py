"""What killed processes leave beside a store: folders that it was begun in, locks, probes."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from logitbank.stores.files.interface import PARTIAL
from logitbank.stores.locks.owner_lock import PROBE
from logitbank.stores.locks.seal_lock import remove_stale_locks


def remove_leftovers(location: str | Path) -> None:
    """Remove what is left beside a store that is there.

    None of it is of use to anybody then: who is still filling a folder to begin this store in will
    find that another process was first. Only a lock that its holder touches stays.

    Raises:
        StoreError: something else than a lock bears the name of one.
    """
    path = Path(os.path.realpath(location))
    name = re.escape(path.name)
    # What bears a store's name has a dot more if it is of another store, `raw.zarr` beside `raw`.
    begun = re.compile(rf"\.{name}\.[^.]+{re.escape(PARTIAL)}")
    probe = re.compile(rf"(\.|\.\.){name}(\.sealing\.[0-9]+)?\.[^.]+{re.escape(PROBE)}")
    with os.scandir(path.parent) as entries:
        beside = list(entries)
    for entry in beside:
        if begun.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        elif probe.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            Path(entry.path).unlink(missing_ok=True)
    remove_stale_locks(path)
