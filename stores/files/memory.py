"""Files in this process's memory, for tests and experiments."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NoReturn

from logitbank.stores.errors import StoreError
from logitbank.stores.files.folders import FILE, Entry
from logitbank.stores.files.interface import (
    SECONDS_UNTIL_STALE,
    FetchedFile,
    Files,
    OpenedFile,
    too_large,
)


class MemoryFiles(Files):
    """A dictionary of bytes that behaves like an object store: there are no folders."""

    def __init__(self, name: str = "store.zarr") -> None:
        self._name = name
        self._contents: dict[str, bytes] = {}
        self._writing, self._seal = threading.Lock(), threading.Lock()

    def __reduce__(self) -> NoReturn:
        raise StoreError(
            f"{self.where} lies in the memory of one process, where no other can read it: use a "
            "store on a disk"
        )

    @property
    def where(self) -> str:
        """The name, as a URL that can't be opened."""
        return f"this-memory://{self._name}"

    @property
    def location(self) -> str:
        """The same as `where`: only the object itself gives access."""
        return self.where

    def require_exists(self) -> None:
        """Do nothing: memory always exists."""

    @contextmanager
    def open(self, key: str) -> Iterator[OpenedFile]:
        """Open the bytes of a key."""
        data = self._contents.get(key)
        if data is None:
            raise FileNotFoundError(key)
        yield FetchedFile(data)

    def get(self, key: str, max_bytes: int | None = None) -> bytes | None:
        """Return the bytes of a key."""
        data = self._contents.get(key)
        if data is not None and max_bytes is not None and len(data) > max_bytes:
            raise too_large(self.where, key, len(data), max_bytes)
        return data

    def exists(self, key: str, *, fresh: bool = False) -> bool:
        """Return whether a key exists."""
        return key in self._contents

    def sizes(self, keys: Sequence[str]) -> Sequence[int | None]:
        """Return the sizes of keys."""
        found = (self._contents.get(key) for key in keys)
        return [None if data is None else len(data) for data in found]

    def list(self) -> Iterator[Entry]:
        """Yield all keys, sorted."""
        contents = sorted(dict(self._contents).items())
        return (Entry(key, FILE, len(data)) for key, data in contents)

    def names(self) -> Sequence[str]:
        """Return the first components of the keys, sorted."""
        return sorted({key.partition("/")[0] for key in dict(self._contents)})

    def put_all(self, contents: Mapping[str, Sequence[Any]]) -> None:
        """Store copies of the bytes."""
        self._contents |= {key: _joined(parts) for key, parts in contents.items()}

    def put_if_absent(self, key: str, parts: Sequence[Any]) -> bool:
        """Store a copy of the bytes unless the key exists."""
        with self._writing:
            if key in self._contents:
                return False
            self.put(key, parts)
        return True

    def delete(self, key: str) -> None:
        """Remove a key, if it exists."""
        self._contents.pop(key, None)

    def sync(self, keys: Sequence[str]) -> None:
        """Do nothing: memory is lost with its process."""

    def as_durable(self) -> MemoryFiles:
        """Return itself."""
        return self

    def is_free(self) -> bool:
        """Return whether there are no keys."""
        return not self._contents

    def create(self, contents: Mapping[str, Sequence[Any]]) -> None:
        """Store the files unless another thread was first."""
        with self._writing:
            if self.is_free():
                self.put_all(contents)

    def free_bytes(self) -> None:
        """Return None: the free memory is unknown."""

    def remove_leftovers(self) -> None:
        """Do nothing: a killed process leaves no memory behind."""

    def sealing(self, stale_after: float = SECONDS_UNTIL_STALE) -> AbstractContextManager[None]:
        """Hold a lock that threads share."""
        return self._sealing()

    @contextmanager
    def _sealing(self) -> Iterator[None]:
        with self._seal:
            yield

    def wait_for_writers(
        self,
        stale_after: float = SECONDS_UNTIL_STALE,
        waiting: Callable[[int], None] = lambda files: None,
    ) -> None:
        """Do nothing: keys are written in one step."""


def _joined(parts: Sequence[Any]) -> bytes:
    return b"".join(memoryview(part).cast("B") for part in parts)
