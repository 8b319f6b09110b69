"""Where a store's bytes lie: a local folder, read and written, or a URL, read."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.errors import StoreError
from logitbank.stores.memory import aligned_empty

PARTIAL = ".partial"
SYNC_THREADS = 16
REMOTE_REQUESTS = 32
UNKNOWN_SIZE = -1


class Files(Protocol):
    """Something that gives the bytes of a key."""

    @property
    def where(self) -> str:
        """The place, as the user named it."""

    def get(self, key: str) -> bytes | None:
        """Give the bytes of a key, None where it is absent."""

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Give the sizes of keys, None where one is absent, without reading them."""


class LocalFiles:
    """A folder; files appear in it whole or not at all.

    A `durable` one flushes each file and its place to the disk: for processes that may be lost with
    their machine before anybody else flushes what they wrote.
    """

    def __init__(self, root: str | Path, *, durable: bool = False) -> None:
        self.root = Path(root)
        self.durable = durable

    @property
    def where(self) -> str:
        """The folder's path."""
        return str(self.root)

    def path(self, key: str) -> Path:
        """Give the path of a key's file."""
        return self.root / key

    def get(self, key: str) -> bytes | None:
        """Give the bytes of a key, None where it is absent."""
        try:
            return self.path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def read(self, key: str) -> memoryview | None:
        """Give the bytes of a key, of any size, in memory that is fast to read into."""
        try:
            with open(self.path(key), "rb", buffering=0) as file:
                data = aligned_empty(os.fstat(file.fileno()).st_size, np.uint8)
                return data[: fill(file, [data])].data
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Give the sizes of keys' files in bytes, None where there is no file; none is opened."""
        return [_file_size(f"{self.root}/{key}") for key in keys]

    def put(self, key: str, parts: Sequence[Any]) -> None:
        """Write a key's file: beside its place first, then renamed into it.

        Raises:
            StoreError: the disk is full or the file can't be written; the key is as it was.
        """
        path = self.path(key)
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(partial, "wb", buffering=0) as file:
                for part in parts:
                    _write_all(file.fileno(), memoryview(part).cast("B"))
                if self.durable:
                    os.fsync(file.fileno())
            os.replace(partial, path)
            if self.durable:
                _flush(path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise write_error(path, error) from error

    def delete(self, key: str) -> None:
        """Remove a key's file if it is there."""
        self.path(key).unlink(missing_ok=True)

    def list_keys(self) -> Iterator[str]:
        """Go through every file of the folder, at any depth."""
        for folder, _, names in os.walk(self.root):
            for name in names:
                yield Path(folder, name).relative_to(self.root).as_posix()

    def sync(self, keys: Sequence[str]) -> None:
        """Flush these files, and then the folders they lie in, to the disk.

        Raises:
            StoreError: the disk refuses one.
        """
        paths = [self.path(key) for key in keys]
        with ThreadPoolExecutor(SYNC_THREADS) as pool:
            # A file system writes one journal for all that is flushed at a time.
            for group in (paths, sorted({path.parent for path in paths})):
                for _ in pool.map(_flush, group):
                    pass


class RemoteFiles:
    """A store behind a URL that fsspec understands (`s3://`, `gs://`, `https://`, `memory://`).

    A forked process, which has none of the threads and connections of fsspec's, makes its own.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._open()

    def _open(self) -> None:
        import zarr.storage

        try:
            self._store = zarr.storage.FsspecStore.from_url(self._url, read_only=True)
        except (ImportError, ValueError) as error:
            raise StoreError(f"{self._url} can't be opened: {error}") from error
        self._process = os.getpid()

    @property
    def where(self) -> str:
        """The URL."""
        return self._url

    def get(self, key: str) -> bytes | None:
        """Give the bytes of a key, None where it is absent."""
        from zarr.core.buffer import default_buffer_prototype
        from zarr.core.sync import sync

        if self._process != os.getpid():
            self._open()
        found = sync(self._store.get(key, default_buffer_prototype()))
        return None if found is None else found.to_bytes()

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Give the sizes of keys in bytes, None where one is absent; many are asked at a time.

        Where a server tells no size, that of a key which is there is `UNKNOWN_SIZE`.
        """
        from zarr.core.common import concurrent_map
        from zarr.core.sync import sync

        async def size(key: str) -> int | None:
            try:
                told = (await self._store.fs._info(f"{self._store.path}/{key}")).get("size")
            except FileNotFoundError:
                return None
            return UNKNOWN_SIZE if told is None else int(told)

        return sync(concurrent_map([(key,) for key in keys], size, REMOTE_REQUESTS))


def files_at(location: str | Path) -> LocalFiles | RemoteFiles:
    """Choose by the look of a location: a URL, or a path.

    Raises:
        StoreError: a path where there is no folder.
    """
    if "://" in str(location):
        return RemoteFiles(str(location))
    if not Path(location).is_dir():
        raise StoreError(f"there is no store at {location}: no such folder")
    return LocalFiles(location)


def fill(file: FileIO, arrays: Sequence[NDArray[np.uint8]]) -> int:
    """Fill arrays, in order, with a file's next bytes; give their number, less where it ends."""
    buffers = [array.data for array in arrays if array.size]
    filled = 0
    while buffers:
        count = os.readv(file.fileno(), buffers)
        if count == 0:
            break
        filled += count
        while buffers and count >= len(buffers[0]):
            count -= len(buffers.pop(0))
        if count:
            buffers[0] = buffers[0][count:]
    return filled


def write_error(path: Path, error: OSError) -> StoreError:
    """Say why a file could not be written, and what to do."""
    if is_disk_full(error):
        return StoreError(
            f"the disk is full: {path} was not written; nothing is lost, make room and run the "
            "same command again"
        )
    return StoreError(f"{path} can't be written: {error.strerror or error}")


def is_disk_full(error: OSError) -> bool:
    """Say whether an error means that there is no room left, or no quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _file_size(path: str) -> int | None:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
