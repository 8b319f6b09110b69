"""Files behind a URL, read-only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NoReturn

from logitbank.stores.errors import StoreError
from logitbank.stores.files.interface import (
    SECONDS_UNTIL_STALE,
    UNKNOWN_SIZE,
    FetchedFile,
    FileError,
    Files,
    OpenedFile,
    too_large,
)
from logitbank.stores.files.location import without_secrets

REQUESTS = 32
"""The number of concurrent requests for sizes."""


class ObjectStoreFiles(Files):
    """Files behind a URL that fsspec understands (`s3://`, `gs://`, `https://`, `memory://`).

    A forked process, which does not inherit fsspec's threads and connections, opens its own.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._open()

    def _open(self) -> None:
        import zarr.storage

        try:
            self._store = zarr.storage.FsspecStore.from_url(self._url, read_only=True)
        except (ImportError, ValueError) as error:
            cause = without_secrets(f"{error}")
            raise StoreError(f"{self.where} can't be opened: {cause}") from error
        self._process = os.getpid()

    def _opened_here(self) -> Any:
        """Return the store, opened by this process."""
        if self._process != os.getpid():
            self._open()
        return self._store

    @property
    def where(self) -> str:
        """The URL, without user, password or token."""
        return without_secrets(self._url)

    @property
    def location(self) -> str:
        """The URL."""
        return self._url

    def require_exists(self) -> None:
        """Do nothing: the first request will tell."""

    @contextmanager
    def open(self, key: str) -> Iterator[OpenedFile]:
        """Fetch a file whole."""
        data = self.get(key)
        if data is None:
            raise FileNotFoundError(key)
        yield FetchedFile(data)

    def get(self, key: str, max_bytes: int | None = None) -> bytes | None:
        """Fetch the bytes of a file; `max_bytes` is checked after fetching."""
        from zarr.core.buffer import default_buffer_prototype
        from zarr.core.sync import sync

        store = self._opened_here()
        try:
            found = sync(store.get(key, default_buffer_prototype()))
        except Exception as error:
            raise self._unreachable(key, error) from error
        if found is None:
            return None
        data: bytes = found.to_bytes()
        if max_bytes is not None and len(data) > max_bytes:
            raise too_large(self.where, key, len(data), max_bytes)
        return data

    def exists(self, key: str, *, fresh: bool = False) -> bool:
        """Ask the server whether a file is there."""
        return self.sizes([key])[0] is not None

    def sizes(self, keys: Sequence[str]) -> Sequence[int | None]:
        """Ask the server for sizes, with concurrent requests."""
        from zarr.core.common import concurrent_map
        from zarr.core.sync import sync

        store = self._opened_here()

        async def size_of(key: str) -> int | None:
            try:
                size = (await store.fs._info(f"{store.path}/{key}")).get("size")
            except FileNotFoundError:
                return None
            except Exception as error:
                raise self._unreachable(key, error) from error
            return UNKNOWN_SIZE if size is None else int(size)

        return sync(concurrent_map([(key,) for key in keys], size_of, REQUESTS))

    def list(self) -> None:
        """Return None: not every server supports listing."""

    def names(self) -> None:
        """Return None, like `list`."""

    def put_all(self, contents: Mapping[str, Sequence[Any]]) -> None:
        """Refuse to write."""
        self._refuse()

    def put_if_absent(self, key: str, parts: Sequence[Any]) -> bool:
        """Refuse to write."""
        self._refuse()

    def delete(self, key: str) -> None:
        """Refuse to write."""
        self._refuse()

    def sync(self, keys: Sequence[str]) -> None:
        """Do nothing: whatever can be read is durable."""

    def as_durable(self) -> ObjectStoreFiles:
        """Return itself."""
        return self

    def is_free(self) -> bool:
        """Refuse to create a store."""
        self._refuse()

    def create(self, contents: Mapping[str, Sequence[Any]]) -> None:
        """Refuse to write."""
        self._refuse()

    def free_bytes(self) -> None:
        """Return None: the free space is unknown."""

    def remove_leftovers(self) -> None:
        """Refuse to write."""
        self._refuse()

    def sealing(self, stale_after: float = SECONDS_UNTIL_STALE) -> AbstractContextManager[None]:
        """Refuse to write."""
        self._refuse()

    def wait_for_writers(
        self,
        stale_after: float = SECONDS_UNTIL_STALE,
        waiting: Callable[[int], None] = lambda files: None,
    ) -> None:
        """Refuse to write."""
        self._refuse()

    def _unreachable(self, key: str, error: Exception) -> FileError:
        """Return the error for a failed request; each kind of server has exceptions of its own."""
        message = " ".join(without_secrets(str(error)).split())
        cause = f"{type(error).__name__}: {message}" if message else type(error).__name__
        return FileError(self.where, key, f"can't be fetched: {cause}")

    def _refuse(self) -> NoReturn:
        raise StoreError(
            f"{self.where} is a URL, and so far only local folders are written: name a local path, "
            "and copy the folder when it is complete"
        )
