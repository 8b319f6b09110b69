"""The interface for reading and writing bytes by key, and its errors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.errors import StoreError
from logitbank.stores.files.folders import FILE, Entry

PARTIAL = ".partial"
"""The suffix of temporary files, which a killed writer may leave behind."""

UNKNOWN_SIZE = -1
"""The size of an existing file whose server does not report it."""

SECONDS_UNTIL_STALE = 60.0
"""How long a lock or temporary file may go untouched before its owner counts as dead."""


class AbsentError(StoreError):
    """A location where nothing exists."""


class FileError(StoreError):
    """A file that can't be reached or read; `cause` follows its key in a sentence."""

    def __init__(self, where: str, key: str, cause: str) -> None:
        super().__init__(f"{where}: {key} {cause}")
        self.key, self.cause = key, cause


class OddFileError(FileError):
    """Something other than a file is in its place (a link, a folder, a named pipe), or a huge file.

    A writer may replace it.
    """


def too_large(where: str, key: str, size: int, max_bytes: int) -> OddFileError:
    """Return the error for a file that is larger than any of its kind may be."""
    cause = f"is too large ({size:,} bytes, expected at most {max_bytes:,})"
    return OddFileError(where, key, cause)


class OpenedFile(Protocol):
    """A file open for reading, positioned at its start."""

    @property
    def size(self) -> int:
        """The file's size in bytes."""

    def read_into(self, arrays: Sequence[NDArray[np.uint8]]) -> int:
        """Fill arrays, in order, with the next bytes and return their number, fewer at the end."""

    def tail(self, count: int) -> bytes:
        """Return the last `count` bytes of the file, or all if it has fewer."""


class Files(ABC):
    """The files under one location: a folder, an object store, or memory.

    A key is a relative path with slashes, `logits/c/0/0/0`. A file appears whole or not at all and
    is replaced in one step; nobody ever reads a half-written one. Every implementation has every
    method, even if it can do nothing there, so that no code asks which one it has.

    In a read-only implementation each method that writes raises the same StoreError.
    """

    # ---- Names

    @property
    @abstractmethod
    def where(self) -> str:
        """The location for messages: as the user wrote it, without passwords or tokens."""

    @property
    @abstractmethod
    def location(self) -> str:
        """The text that opens the same files in this process; it may contain a password."""

    @abstractmethod
    def require_exists(self) -> None:
        """Check that the location exists; do nothing if only reading can tell.

        Raises:
            AbsentError: nothing exists there.
            StoreError: it is something else, or can't be opened.
        """

    # ---- Reading

    @abstractmethod
    def open(self, key: str) -> AbstractContextManager[OpenedFile]:
        """A context manager that opens a file for reading, without a copy where possible.

        Raises:
            FileNotFoundError: nothing exists at the key.
            OddFileError: it is not a file.
            FileError: it can't be reached or read.
        """

    @abstractmethod
    def get(self, key: str, max_bytes: int | None = None) -> bytes | None:
        """Return the bytes of a file, None if nothing exists at the key.

        Args:
            key: the file's.
            max_bytes: the largest size accepted.

        Raises:
            OddFileError: it is not a file, or larger than `max_bytes`.
            FileError: it can't be reached or read.
        """

    @abstractmethod
    def exists(self, key: str, *, fresh: bool = False) -> bool:
        """Return whether anything exists at a key, a file or not.

        Args:
            key: the key.
            fresh: whether to make a network file system ask its server again, past its cache,
                before returning False.

        Raises:
            FileError: the location can't be reached.
        """

    @abstractmethod
    def sizes(self, keys: Sequence[str]) -> Sequence[int | None]:
        """Return the sizes of files in bytes without reading them, None for a missing file.

        The size is `UNKNOWN_SIZE` for a file whose server does not report it.

        Raises:
            FileError: a file can't be reached.
        """

    @abstractmethod
    def list(self) -> Iterator[Entry] | None:
        """Yield all entries at any depth, folders before their content; links are not followed.

        Returns:
            None if the location does not support listing.
        """

    @abstractmethod
    def names(self) -> Sequence[str] | None:
        """Return the names at the top level, sorted, None if the location does not support listing.

        Raises:
            FileError: listing failed; the error's key is empty.
        """

    def list_keys(self) -> Iterator[str]:
        """Yield the keys of all files, none if the location does not support listing."""
        return (entry.key for entry in self.list() or () if entry.kind == FILE)

    # ---- Writing

    @abstractmethod
    def put_all(self, contents: Mapping[str, Sequence[Any]]) -> None:
        """Write several files, each from its parts (buffers of bytes) in order.

        Raises:
            StoreError: one can't be written; each file is then either unchanged or whole.
        """

    def put(self, key: str, parts: Sequence[Any]) -> None:
        """Write a file, as `put_all` does.

        Raises:
            StoreError: it can't be written, and is unchanged.
        """
        self.put_all({key: parts})

    @abstractmethod
    def put_if_absent(self, key: str, parts: Sequence[Any]) -> bool:
        """Write a file unless it exists; of several concurrent writers exactly one succeeds.

        Returns:
            Whether it was written.

        Raises:
            StoreError: it can't be written.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the file, link or empty folder at a key, if there is one.

        Raises:
            FileError: it can't be removed, or is a folder that is not empty.
        """

    @abstractmethod
    def sync(self, keys: Sequence[str]) -> None:
        """Wait until these files are safe from a power loss; do nothing if they already are.

        Raises:
            StoreError: one can't be flushed.
        """

    @abstractmethod
    def as_durable(self) -> Files:
        """Return the same files, but such that written ones need no `sync`."""

    # ---- Beginning and finishing a store

    @abstractmethod
    def is_free(self) -> bool:
        """Return whether a store can be created here, since nothing exists yet.

        Raises:
            StoreError: no store can be created, because of what is here or above.
        """

    @abstractmethod
    def create(self, contents: Mapping[str, Sequence[Any]]) -> None:
        """Create a store where `is_free`: its first files appear together, safe from a power loss.

        If another process has created one in the meantime, that store stays and nothing is done.

        Args:
            contents: the files, including the one that makes it a store (`zarr.json`).

        Raises:
            StoreError: they can't be written; nothing is left behind.
        """

    @abstractmethod
    def free_bytes(self) -> int | None:
        """Return the free space in bytes, None if it is unlimited or unknown."""

    @abstractmethod
    def remove_leftovers(self) -> None:
        """Remove what killed processes have left beside an existing store.

        Raises:
            StoreError: something other than a lock has the name of one.
        """

    @abstractmethod
    def sealing(self, stale_after: float = SECONDS_UNTIL_STALE) -> AbstractContextManager[None]:
        """A context manager that holds the lock for sealing the store, waiting for it first.

        Args:
            stale_after: seconds after which an untouched lock belongs to a dead process.

        Raises:
            StoreError: the lock can't be written.
        """

    @abstractmethod
    def wait_for_writers(
        self,
        stale_after: float = SECONDS_UNTIL_STALE,
        waiting: Callable[[int], None] = lambda files: None,
    ) -> None:
        """Wait until no process is in the middle of writing a file.

        Args:
            stale_after: seconds after which an untouched temporary file belongs to a dead process.
            waiting: called once with the number of files, if there are any to wait for.

        Raises:
            StoreError: the file server's clock can't be read.
        """


class FetchedFile:
    """A file that was fetched whole into memory."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return len(self._data)

    def read_into(self, arrays: Sequence[NDArray[np.uint8]]) -> int:
        """Fill arrays with the next bytes by copying; see `OpenedFile`."""
        start = self._position
        for array in arrays:
            count = min(array.size, len(self._data) - self._position)
            array[:count] = np.frombuffer(self._data, np.uint8, count, self._position)
            self._position += count
        return self._position - start

    def tail(self, count: int) -> bytes:
        """Return the last bytes."""
        return self._data[-count:] if count else b""
