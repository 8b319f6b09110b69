"""Files in a folder, on a local disk or one that several machines share."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.files.disk_errors import write_error
from logitbank.stores.files.flushing import flush_all, make_folders
from logitbank.stores.files.folders import FILE, FOLDER, LINK, Entry, entries_of, kind_of
from logitbank.stores.files.interface import (
    PARTIAL,
    SECONDS_UNTIL_STALE,
    FileError,
    Files,
    OddFileError,
    OpenedFile,
    too_large,
)
from logitbank.stores.files.local_place import is_free, put_in_place, require_folder


class LocalFiles(Files):
    """Files in a folder, each of which appears whole or not at all.

    The folder may be reached through a link, but links in it are not followed: everything read,
    written or removed lies in the folder itself. With `durable`, each file is flushed to the disk
    as it is written, with its folder and the folders made for it: for files that work is resumed
    from, and for processes that may be lost with their machine before anyone flushes their files.
    """

    def __init__(self, root: str | Path, *, durable: bool = False) -> None:
        self.root = Path(root)
        self.durable = durable

    @property
    def where(self) -> str:
        """The folder's path."""
        return str(self.root)

    @property
    def location(self) -> str:
        """The folder's path."""
        return str(self.root)

    def path(self, key: str) -> Path:
        """Return the path of a key's file."""
        return self.root / key

    def require_exists(self) -> None:
        """Check that the folder exists; a link to one is followed."""
        require_folder(self.root)

    @contextmanager
    def open(self, key: str) -> Iterator[OpenedFile]:
        """Open a file unbuffered; a link or a file in a folder's place is a FileError."""
        try:
            kind = kind_of(os.lstat(self._reached(key)))
            if kind != FILE:
                raise OddFileError(self.where, key, f"is {kind}, where a file belongs")
            with open(self.path(key), "rb", buffering=0, opener=_open_file) as file:
                yield _LocalFile(file)
        except NotADirectoryError as error:
            raise FileNotFoundError(*error.args) from None
        except FileNotFoundError:
            raise
        except OSError as error:
            raise FileError(self.where, key, f"can't be read: {error.strerror or error}") from error

    def get(self, key: str, max_bytes: int | None = None) -> bytes | None:
        """Return the bytes of a file; its size is checked before any are read."""
        try:
            with self.open(key) as file:
                if max_bytes is not None and file.size > max_bytes:
                    raise too_large(self.where, key, file.size, max_bytes)
                return file.tail(file.size)
        except FileNotFoundError:
            return None

    def exists(self, key: str, *, fresh: bool = False) -> bool:
        """Return whether anything exists at a key; links in its path are followed."""
        path = self.path(key)
        if os.path.lexists(path):
            return True
        if not fresh:
            return False
        try:
            # Reading a folder makes a network file system ask its server again.
            return path.name in os.listdir(path.parent)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            cause = f"can't be accessed: {error.strerror or error}"
            raise FileError(self.where, key, cause) from error

    def sizes(self, keys: Sequence[str]) -> Sequence[int | None]:
        """Return the sizes of files without opening them."""
        return [_file_size(f"{self.root}/{key}") for key in keys]

    def list(self) -> Iterator[Entry]:
        """Yield all entries of the folder at any depth; links are not followed."""
        return entries_of(self.root)

    def names(self) -> Sequence[str]:
        """Return the names in the folder, sorted."""
        try:
            return sorted(os.listdir(self.root))
        except OSError as error:
            cause = f"can't be listed ({error.strerror or error})"
            raise FileError(self.where, "", cause) from error

    def put_all(self, contents: Mapping[str, Sequence[Any]]) -> None:
        """Write temporary files first, then rename them into place, flushing them together."""
        partials: dict[Path, Path] = {}
        changed: dict[Path, None] = {}
        path = self.root
        try:
            for key, parts in contents.items():
                path = Path(self._reached(key))
                changed |= dict.fromkeys(make_folders(path.parent))
                partials[path] = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")
                _write_new(partials[path], parts)
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

    def put_if_absent(self, key: str, parts: Sequence[Any]) -> bool:
        """Write a temporary file and link it into place, which fails if anything exists there."""
        path = Path(self._reached(key))
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")
        try:
            changed = make_folders(path.parent)
            _write_new(partial, parts)
            if self.durable:
                flush_all([partial])
            os.link(partial, path)
            if self.durable:
                flush_all([*changed, path.parent])
        except FileExistsError:
            return False
        except OSError as error:
            raise write_error(path, error) from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        return True

    def delete(self, key: str) -> None:
        """Remove the file, link (not its target) or empty folder at a key."""
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

    def sync(self, keys: Sequence[str]) -> None:
        """Flush the files, then every folder on the way to them and the store's parent folder."""
        folders = {folder for key in keys for folder in Path(key).parents}
        try:
            flush_all([self.path(key) for key in keys])
            flush_all([*map(self.root.joinpath, sorted(folders)), self.root.absolute().parent])
        except OSError as error:
            raise write_error(Path(error.filename or self.root), error) from error

    def as_durable(self) -> LocalFiles:
        """Return the same folder, with files flushed as they are written."""
        return LocalFiles(self.root, durable=True)

    def is_free(self) -> bool:
        """Return whether the folder is empty or does not exist."""
        return is_free(self.root)

    def create(self, contents: Mapping[str, Sequence[Any]]) -> None:
        """Write the files in a sibling folder, flush it, and rename it into place."""
        with put_in_place(self.root) as sibling:
            LocalFiles(sibling, durable=True).put_all(contents)

    def free_bytes(self) -> int:
        """Return the free bytes of the disk that the folder is, or would be, on."""
        folder = self.root.absolute()
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

    # Imported late: locks use the errors and helpers of this package.

    def remove_leftovers(self) -> None:
        """Remove half-made folders, stale locks and clock files beside the folder."""
        from logitbank.stores.housekeeping.leftovers import remove_leftovers

        remove_leftovers(self.root)

    def sealing(self, stale_after: float = SECONDS_UNTIL_STALE) -> AbstractContextManager[None]:
        """Hold the lock, a hidden file beside the folder."""
        from logitbank.stores.locks.seal_lock import seal_lock

        return seal_lock(self.root, stale_after=stale_after)

    def wait_for_writers(
        self,
        stale_after: float = SECONDS_UNTIL_STALE,
        waiting: Callable[[int], None] = lambda files: None,
    ) -> None:
        """Wait until every temporary file is gone or stale."""
        from logitbank.stores.locks.seal_lock import wait_for_writers

        wait_for_writers(self.root, stale_after=stale_after, waiting=waiting)

    def _reached(self, key: str) -> str:
        """Return the path of a key's file after checking that its parents are real folders.

        Raises:
            FileError: a link or a file is in a folder's place.
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


class _LocalFile:
    """An unbuffered file open for reading."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    def read_into(self, arrays: Sequence[NDArray[np.uint8]]) -> int:
        """Fill arrays directly, without a copy."""
        buffers = [array.data for array in arrays if array.size]
        filled = 0
        while buffers:
            count = os.readv(self._file.fileno(), buffers)
            if count == 0:
                break
            filled += count
            while buffers and count >= len(buffers[0]):
                count -= len(buffers.pop(0))
            if count:
                buffers[0] = buffers[0][count:]
        return filled

    def tail(self, count: int) -> bytes:
        """Return the last bytes."""
        self._file.seek(max(0, self.size - count))
        return self._file.readall()


def _file_size(path: str) -> int | None:
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _open_file(path: str, flags: int) -> int:
    # A pipe or link that has appeared since the check is neither waited for nor followed.
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _replace(partial: Path, path: Path) -> None:
    try:
        os.replace(partial, path)
    except IsADirectoryError:
        # Only an empty folder is removed, so nothing can be lost.
        os.rmdir(path)
        os.replace(partial, path)


def _write_new(path: Path, parts: Sequence[Any]) -> None:
    with open(path, "xb", buffering=0) as file:
        for part in parts:
            _write_all(file.fileno(), memoryview(part).cast("B"))


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
