"""The interface to a place that holds bytes by key, and the errors of one."""

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
"""How the name of a temporary file ends, which a writer that was killed may leave."""

UNKNOWN_SIZE = -1
"""The size of a file that is there, where its server tells none."""

SECONDS_UNTIL_STALE = 60.0
"""How long a lock or a temporary file is untouched before its owner counts as dead."""


class AbsentError(StoreError):
    """A location where there is nothing."""


class FileError(StoreError):
    """A key whose file can't be reached or read; `cause` goes on where a sentence has named it."""

    def __init__(self, where: str, key: str, cause: str) -> None:
        super().__init__(f"{where}: {key} {cause}")
        self.key, self.cause = key, cause


class OddFileError(FileError):
    """What stands in a file's place is none of ours: a link, a folder, a named pipe, far too large.

    A writer may put the file in its place.
    """


def too_large(where: str, key: str, size: int, most: int) -> OddFileError:
    """Build the error for a file that is larger than any of its kind may be."""
    return OddFileError(where, key, f"is too large ({size:,} bytes, expected at most {most:,})")


class OpenedFile(Protocol):
    """A file that is being read, from its first byte on."""

    @property
    def size(self) -> int:
        """The file's size in bytes."""

    def read_into(self, arrays: Sequence[NDArray[np.uint8]]) -> int:
        """Fill arrays, in order, with the next bytes; return their number, less at the end."""

    def tail(self, count: int) -> bytes:
        """Return the last `count` bytes of the file, fewer where it has fewer."""


class Files(ABC):
    """Bytes by key, in one place: a folder, an object store, or memory.

    A key is a relative path with slashes, `logits/c/0/0/0`. A file appears whole or not at all and
    is replaced in one step; nobody ever reads a half-written one. What only some places can do is a
    method that all of them answer, so that no code asks which it has.

    A place that is only read answers each method that writes with one StoreError.
    """

    # ---- What it is called

    @property
    @abstractmethod
    def where(self) -> str:
        """The place as errors name it: as the user did, without passwords or tokens."""

    @property
    @abstractmethod
    def location(self) -> str:
        """The text that opens the same place in this process; it may hold a password."""

    @abstractmethod
    def require_there(self) -> None:
        """Check that there is a place to read from; where only reading shows that, do nothing.

        Raises:
            AbsentError: there is nothing.
            StoreError: something else is there, or it can't be opened.
        """

    # ---- Reading

    @abstractmethod
    def opened(self, key: str) -> AbstractContextManager[OpenedFile]:
        """Open a file for the time of a `with` block that reads it, where possible without a copy.

        Raises:
            FileNotFoundError: nothing is there.
            OddFileError: something else than a file is there.
            FileError: it can't be reached or read.
        """

    @abstractmethod
    def get(self, key: str, most: int | None = None) -> bytes | None:
        """Return the bytes of a file, None where there is nothing.

        Args:
            key: the file's.
            most: the most bytes that it may have.

        Raises:
            OddFileError: something else than a file is there, or it has more than `most` bytes.
            FileError: it can't be reached or read.
        """

    @abstractmethod
    def exists(self, key: str, *, fresh: bool = False) -> bool:
        """Say whether anything is at a key, a file or not.

        Args:
            key: looked for.
            fresh: whether a file system that answers from memory is made to ask its server again
                before the answer is no.

        Raises:
            FileError: it can't be told.
        """

    @abstractmethod
    def sizes(self, keys: Sequence[str]) -> Sequence[int | None]:
        """Return the sizes of files in bytes without reading them, None where there is no file.

        It is `UNKNOWN_SIZE` where a file is there but its server tells no size.

        Raises:
            FileError: one can't be told.
        """

    @abstractmethod
    def list(self) -> Iterator[Entry] | None:
        """Yield all that is there, at any depth, a folder before its content, without following.

        Returns:
            None where the place can't be listed, so that nothing is known of what else is there.
        """

    @abstractmethod
    def names(self) -> Sequence[str] | None:
        """Return the first level of what is there, sorted, None where it can't be listed.

        Raises:
            FileError: it can be listed elsewhere, but this time it can't; its key is empty.
        """

    def list_keys(self) -> Iterator[str]:
        """Yield the keys of all files; none where the place can't be listed."""
        return (entry.key for entry in self.list() or () if entry.kind == FILE)

    # ---- Writing

    @abstractmethod
    def put_all(self, contents: Mapping[str, Sequence[Any]]) -> None:
        """Write several files, each of its parts (buffers of bytes) one after the other.

        Raises:
            StoreError: one can't be written; each is as it was, or whole.
        """

    def put(self, key: str, parts: Sequence[Any]) -> None:
        """Write a file, as `put_all` does.

        Raises:
            StoreError: it can't be written and is as it was.
        """
        self.put_all({key: parts})

    @abstractmethod
    def put_if_absent(self, key: str, parts: Sequence[Any]) -> bool:
        """Write a file unless there is one; of several who try at a moment, one succeeds.

        Returns:
            Whether it was written.

        Raises:
            StoreError: it can't be written.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove what is at a key, where anything is: a file, a link, an empty folder.

        Raises:
            FileError: it can't be removed, or is a folder with something in it.
        """

    @abstractmethod
    def sync(self, keys: Sequence[str]) -> None:
        """Wait until no power loss can take these files; where that holds already, do nothing.

        Raises:
            StoreError: the disk refuses one.
        """

    @abstractmethod
    def as_durable(self) -> Files:
        """Return the same place, where a file that has been written needs no `sync`."""

    # ---- Beginning and finishing a store

    @abstractmethod
    def is_free(self) -> bool:
        """Say whether a store can be made here: nothing is there yet.

        Raises:
            StoreError: what is there, or above, can hold no store.
        """

    @abstractmethod
    def create(self, contents: Mapping[str, Sequence[Any]]) -> None:
        """Begin a store where `is_free`: its first files appear at once, and no power loss can take
        them. Where another process was first meanwhile, its store stays and this does nothing.

        Args:
            contents: the files, the one that makes it a store (`zarr.json`) among them.

        Raises:
            StoreError: they can't be written; nothing is left.
        """

    @abstractmethod
    def free_bytes(self) -> int | None:
        """Return the bytes that there is room for, None where nothing limits or tells them."""

    @abstractmethod
    def remove_leftovers(self) -> None:
        """Remove what killed processes have left beside a store that is there.

        Raises:
            StoreError: something that no process of ours made bears the name of a lock.
        """

    @abstractmethod
    def sealing(self, stale_after: float = SECONDS_UNTIL_STALE) -> AbstractContextManager[None]:
        """Wait for the right to seal the store, and keep it for the time of a `with` block.

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
            waiting: called once, with the number of files, where there is something to wait for.

        Raises:
            StoreError: the clock of the place can't be read.
        """


class FetchedFile:
    """A file whose bytes were fetched whole."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return len(self._data)

    def read_into(self, arrays: Sequence[NDArray[np.uint8]]) -> int:
        """Fill arrays as `OpenedFile` says, by copying."""
        start = self._position
        for array in arrays:
            count = min(array.size, len(self._data) - self._position)
            array[:count] = np.frombuffer(self._data, np.uint8, count, self._position)
            self._position += count
        return self._position - start

    def tail(self, count: int) -> bytes:
        """Return the last bytes."""
        return self._data[-count:] if count else b""
