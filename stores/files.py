"""Where a store's bytes lie: a local folder, read and written, or a URL, read."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.errors import StoreError
from logitbank.stores.flushing import flush_all, make_folders
from logitbank.stores.folders import FILE, FOLDER, LINK, Entry, entries_of, kind_of

PARTIAL = ".partial"
REMOTE_REQUESTS = 32
UNKNOWN_SIZE = -1


class FileError(StoreError):
    """A key whose file can't be reached or read; `cause` goes on where a sentence has named it."""

    def __init__(self, where: str, key: str, cause: str) -> None:
        super().__init__(f"{where}: {key} {cause}")
        self.key, self.cause = key, cause


class OddFileError(FileError):
    """What stands in a file's place is none of ours: a link, a folder, a named pipe, far too large.

    A writer may put the file in its place.
    """


class Files(Protocol):
    """Something that gives the bytes of a key."""

    @property
    def where(self) -> str:
        """The place, as the user named it."""

    def get(self, key: str, most: int | None = None) -> bytes | None:
        """Give the bytes of a key, None where it is absent; more than `most` are an error."""

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Give the sizes of keys, None where one is absent, without reading them."""


class LocalFiles:
    """A folder; files appear in it whole or not at all.

    The folder may be reached through a link, but none in it is followed: what is read, written or
    removed lies in it. A `durable` one flushes each file, its place, and the folders made for it to
    the disk: for files that somebody goes on from, and for processes that may be lost with their
    machine before anybody else flushes what they wrote.
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

    @contextmanager
    def opened(self, key: str) -> Iterator[FileIO]:
        """Open a key's file, unbuffered, for the time of a `with` block that reads it.

        Raises:
            FileNotFoundError, NotADirectoryError: nothing is there.
            OddFileError: something else than a file is there.
            FileError: a link or a file stands in the way there, or it can't be read.
        """
        try:
            kind = kind_of(os.lstat(self._reached(key)))
            if kind != FILE:
                raise OddFileError(self.where, key, f"is {kind}, where a file belongs")
            with open(self.path(key), "rb", buffering=0, opener=_open_file) as file:
                yield file
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError as error:
            raise FileError(self.where, key, f"can't be read: {error.strerror or error}") from error

    def get(self, key: str, most: int | None = None) -> bytes | None:
        """Give the bytes of a key, None where it is absent.

        Raises:
            FileError: as `opened`, or it has more than `most` bytes, an `OddFileError`.
        """
        try:
            with self.opened(key) as file:
                size = os.fstat(file.fileno()).st_size
                if most is not None and size > most:
                    raise too_large(self.where, key, size, most)
                return file.readall()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def sizes(self, keys: Sequence[str]) -> list[int | None]:
        """Give the sizes of keys' files in bytes, None where there is no file; none is opened."""
        return [_file_size(f"{self.root}/{key}") for key in keys]

    def put(self, key: str, parts: Sequence[Any]) -> None:
        """Write a key's file: beside its place first, then renamed into it.

        Raises:
            StoreError: the disk is full or the file can't be written; the key is as it was.
        """
        self.put_all({key: parts})

    def put_all(self, contents: Mapping[str, Sequence[Any]]) -> None:
        """Write the files of several keys, each as `put` does; they are flushed together.

        Raises:
            StoreError: the disk is full or a file can't be written; each key is as it was or whole.
        """
        partials: dict[Path, Path] = {}
        changed: dict[Path, None] = {}
        path = self.root
        try:
            for key, parts in contents.items():
                path = Path(self._reached(key))
                changed |= dict.fromkeys(make_folders(path.parent))
                partials[path] = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")
                with open(partials[path], "xb", buffering=0) as file:
                    for part in parts:
                        _write_all(file.fileno(), memoryview(part).cast("B"))
            if self.durable:
                flush_all(list(partials.values()))
            for path, partial in partials.items():
                _replace(partial, path)
            if self.durable:
                flush_all(list(changed | dict.fromkeys(path.parent for path in partials)))
        except OSError as error:
            for partial in partials.values():
                with contextlib.suppress(OSError):
                    partial.unlink(missing_ok=True)
            raise write_error(path, error) from error

    def delete(self, key: str) -> None:
        """Remove what is in a key's place: a file, a link and not its end, an empty folder.

        Raises:
            FileError: it can't be removed, or is a folder with something in it.
        """
        try:
            path = self._reached(key)
            if kind_of(os.lstat(path)) == FOLDER:
                os.rmdir(path)
            else:
                os.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            cause = f"can't be removed: {error.strerror or error}"
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                cause = "is a folder with files in it, where a file belongs: move it away"
            raise FileError(self.where, key, cause) from error

    def entries(self) -> Iterator[Entry]:
        """Go through all that is in the folder, at any depth, in order; no link is followed."""
        return entries_of(self.root)

    def list_keys(self) -> Iterator[str]:
        """Go through every file of the folder, at any depth."""
        return (entry.key for entry in self.entries() if entry.kind == FILE)

    def sync(self, keys: Sequence[str]) -> None:
        """Flush these files, then all folders on the way to them, and the one above, to the disk.

        Raises:
            StoreError: the disk refuses one.
        """
        folders = {folder for key in keys for folder in Path(key).parents}
        try:
            flush_all([self.path(key) for key in keys])
            flush_all([*map(self.root.joinpath, sorted(folders)), self.root.absolute().parent])
        except OSError as error:
            raise write_error(Path(error.filename or self.root), error) from error

    def _reached(self, key: str) -> str:
        """Give the path of a key's file, once the folders on the way are known to be none but that.

        Raises:
            FileError: a link or a file stands where a folder belongs.
        """
        path, *rest = key.split("/")
        for name in rest:
            try:
                kind = kind_of(os.lstat(os.path.join(self.root, path)))
            except (FileNotFoundError, NotADirectoryError):
                break
            if kind == LINK:
                raise FileError(
                    self.where,
                    path,
                    "is a link, and nothing in a store is read or written through one: put what it "
                    "leads to in its place",
                )
            if kind != FOLDER:
                raise FileError(
                    self.where, path, f"is {kind}, where a folder belongs: move it away"
                )
            path = f"{path}/{name}"
        return os.path.join(self.root, key)


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

    def get(self, key: str, most: int | None = None) -> bytes | None:
        """Give the bytes of a key, None where it is absent; more than `most` are an error."""
        from zarr.core.buffer import default_buffer_prototype
        from zarr.core.sync import sync

        if self._process != os.getpid():
            self._open()
        found = sync(self._store.get(key, default_buffer_prototype()))
        if found is None:
            return None
        data = found.to_bytes()
        if most is not None and len(data) > most:
            raise too_large(self._url, key, len(data), most)
        return data

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
    kind: str | None = None
    try:
        kind = kind_of(os.stat(location))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        if os.path.islink(location):
            kind = "a link that leads nowhere"
    except OSError as error:
        raise StoreError(f"{location} can't be opened: {error.strerror or error}") from error
    if kind is None:
        raise StoreError(f"there is no store at {location}: no such folder")
    if kind != FOLDER:
        raise StoreError(f"there is no store at {location}: it is {kind}")
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
    obstacle = obstacle_above(path)
    if obstacle is not None:
        return StoreError(f"{path} can't be written: {obstacle}")
    return StoreError(f"{path} can't be written: {error.strerror or error}")


def obstacle_above(path: Path) -> str | None:
    """Say what keeps the folders above a path from being made: None where nothing does."""
    for above in path.absolute().parents:
        try:
            kind = kind_of(os.stat(above))
        except FileNotFoundError:
            if os.path.islink(above):
                return f"{above} is a link that leads nowhere"
            continue
        except OSError:
            continue
        return None if kind == FOLDER else f"{above} is {kind}, which nothing can lie in"
    return None


def too_large(where: str, key: str, size: int, most: int) -> OddFileError:
    """Build the error for a file that is larger than any of its kind may be."""
    return OddFileError(where, key, f"is too large ({size:,} bytes, expected at most {most:,})")


def is_disk_full(error: OSError) -> bool:
    """Say whether an error means that there is no room left, or no quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _file_size(path: str) -> int | None:
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _open_file(path: str, flags: int) -> int:
    # Should a pipe or a link have come since it was looked at, this neither waits nor follows.
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _replace(partial: Path, path: Path) -> None:
    try:
        os.replace(partial, path)
    except IsADirectoryError:
        # An empty folder in a file's place holds nothing that could be lost.
        os.rmdir(path)
        os.replace(partial, path)


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
