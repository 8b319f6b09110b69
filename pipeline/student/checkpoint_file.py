"""A checkpoint's file, read whole: bytes that are not those written are never taken for weights."""

from __future__ import annotations

import errno
import os
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import torch

from logitbank.stores.errors import LogitbankError, StoreError

_TORN = "cut short, or never written whole"
_FOLDER = 0x10  # of a record's attributes
# What zipfile raises on damaged headers, besides BadZipFile.
_OF_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError),
    *(RuntimeError, ValueError, OverflowError),
)


class DamagedCheckpointError(LogitbankError):
    """A checkpoint that is empty or torn, or in which some bits have changed."""


def read_checkpoint(path: Path, *, mapped: bool = False) -> dict[str, Any] | None:
    """Read a checkpoint of a run onto the CPU, None where there is none.

    Args:
        path: its file.
        mapped: leave tensors on the disk until they are used; the file must stay as it is.

    Raises:
        DamagedCheckpointError: its bytes are not those that were written.
        LogitbankError: its bytes are intact, but it is not a run's.
        StoreError: it can't be read.
    """
    try:
        with open(path, "rb") as file:
            if damage := _damage(file):
                raise DamagedCheckpointError(f"{path} is damaged ({damage})")
            file.seek(0)
            content = _loaded(path, path if mapped else file, mapped)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} can't be read: {error.strerror or error}") from error
    training = content.get("training") if isinstance(content, dict) else None
    if not isinstance(training, dict) or "metrics" not in training:
        raise LogitbankError(f"{path} is not a checkpoint of a run: name another --out")
    return content


def _damage(file: IO[bytes]) -> str | None:
    """Return what is damaged in a zip file, by the CRCs that torch.load does not check."""
    if os.fstat(file.fileno()).st_size == 0:
        return "empty"
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            is_plain = all(map(_is_plain, records))
            # None has one if torch.serialization.set_crc32_options(False) was called.
            record = archive.testzip() if any(one.CRC for one in records) else None
    except _OF_DAMAGE:
        return _TORN
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place before the file's beginning
            raise
        return _TORN
    if record is not None:
        return f"bits of {record.partition('/')[2] or record} have changed"
    return None if is_plain else "bits of its table of records have changed"


def _is_plain(record: zipfile.ZipInfo) -> bool:
    """Return whether torch reads the same bytes of a record as zipfile, which checked them.

    For one marked as a folder, by a flipped bit, torch.load returns uninitialised memory.
    """
    is_folder = bool(record.external_attr & _FOLDER)
    return record.file_size == record.compress_size and not is_folder


def _loaded(path: Path, source: Path | IO[bytes], mapped: bool) -> Any:
    try:
        return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped or None)
    except OSError:
        raise
    except Exception as error:  # the unpickler may raise anything
        if "PytorchStreamReader" in str(error):
            raise DamagedCheckpointError(f"{path} is damaged (torch can't read it)") from error
        reason = str(error).partition("\n")[0][:200]
        raise LogitbankError(
            f"{path} is intact, but can't be loaded by torch {torch.__version__} ({reason}): name "
            "another --out"
        ) from error
