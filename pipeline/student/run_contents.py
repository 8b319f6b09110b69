"""What a run's folder holds: a run's own files, and signs that a folder is not a run's."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from logitbank.pipeline.student.config import TrainConfig
from logitbank.stores.errors import LogitbankError, StoreError, UsageError
from logitbank.stores.files import PARTIAL
from logitbank.stores.housekeeping.outside_stores import require_outside_stores

CONFIG, METRICS = "config.yaml", "metrics.jsonl"
BEST, LAST, AVERAGE = "best.pt", "last.pt", "ema.pt"
FILES = (CONFIG, METRICS, BEST, LAST, AVERAGE)
LOCK = ".training"
EVENTS = "events.out.tfevents."
SET_ASIDE = ("damaged", "earlier")

_NAMES_SHOWN = 3
_LEFT_BY_SYSTEMS = (".DS_Store", ".gitkeep")
_LEFT_BY_SERVERS = ".nfs"
_FIRST_FIELD = "student: "
_MOST_BYTES = 1_000_000


def require_run_folder(path: Path) -> None:
    """Check that a folder is absent, empty or a run's; nothing is written.

    What a killed first attempt left counts as nothing. A run's folder may hold other files as well,
    notes or a log, once its `config.yaml` says what it is; a store may never hold a run.

    Raises:
        UsageError: it is a file, a store, in a store, or holds anything but a run.
        LogitbankError: the `config.yaml` in it is not a run's.
        StoreError: it can't be listed.
    """
    try:
        _require_folder(path)
        require_outside_stores(path)
        others = sorted(name for name in _names(path) if not _is_left_over(name))
        for name in others:
            if name in FILES and not (path / name).is_file():
                raise UsageError(
                    f"{path / name} is {_kind(path / name)}, where a run has a file: name another "
                    "--out"
                )
        if others and not _is_run(path, others):
            raise UsageError(f"{path} holds {_shown(path, others)}, but no run: name another --out")
    except OSError as error:
        raise StoreError(f"{path} can't be listed: {error.strerror or error}") from error
    except ValueError as error:  # a path with a null character
        raise UsageError(f"{str(path)!r} is not a path: {error}") from error


def read_config(path: Path, *, whole: str | None = None) -> TrainConfig | None:
    """Read a run's configuration, None if there is none, or a torn one.

    Args:
        path: the run's folder.
        whole: the text that it should be, if known: a part of it is a torn one.

    Raises:
        LogitbankError: it is anything else.
    """
    file = path / CONFIG
    try:
        with open(file, "rb") as opened:
            content = opened.read(_MOST_BYTES)
    except FileNotFoundError:
        return None
    if len(content) < _MOST_BYTES and _is_torn(content, whole):
        return None
    try:
        return TrainConfig.from_yaml(content.decode(errors="replace"), str(file))
    except UsageError as error:
        raise LogitbankError(f"{file}: {error}: name another --out") from error
    except LogitbankError as error:
        raise LogitbankError(f"{error}: name another --out") from error


def is_own_partial(name: str) -> bool:
    """Return whether a file is what a killed run left of one it was writing."""
    is_ours = name.startswith(tuple(f"{own}." for own in FILES)) and name.endswith(PARTIAL)
    return is_ours or name.startswith(f".{LOCK}.")


def _require_folder(path: Path) -> None:
    if path.is_dir():
        return
    if os.path.lexists(path):
        what = "a broken link" if path.is_symlink() else _kind(path)
        raise UsageError(f"{path} is {what}: --out names a folder for the run")
    file = next((parent for parent in path.parents if parent.exists()), None)
    if file is not None and not file.is_dir():
        raise UsageError(f"{path} can't be made: {file} is {_kind(file)}")


def _names(path: Path) -> list[str]:
    return os.listdir(path) if path.is_dir() else []


def _is_left_over(name: str) -> bool:
    """Return whether a file can be ignored: a killed attempt's, or the system's own."""
    endings = tuple(f"{own}.{ending}" for own in FILES for ending in SET_ASIDE)
    locks = f"{LOCK}.", f".{LOCK}."
    return (
        name in _LEFT_BY_SYSTEMS
        or name.endswith(PARTIAL)
        or name.startswith((*endings, *locks, EVENTS, _LEFT_BY_SERVERS))
    )


def _is_run(path: Path, others: list[str]) -> bool:
    """Return whether these names are a run's, by its configuration.

    Raises:
        LogitbankError: they may be, but the configuration is not one.
    """
    is_all_ours = set(others) <= set(FILES)
    try:
        if CONFIG in others and read_config(path) is not None:
            return True
    except LogitbankError:
        if is_all_ours:
            raise
        return False
    # A torn one may be anybody's, and one that was lost is in the last checkpoint as well.
    return is_all_ours and bool({CONFIG, LAST} & set(others))


def _is_torn(content: bytes, whole: str | None) -> bool:
    """Return whether bytes are what a lost disk cache leaves of a configuration."""
    text = content.rstrip(b"\0 \n")
    is_ours = content.startswith(_FIRST_FIELD.encode()[: len(text)])
    if not text or (is_ours and (b"\0" in content or not content.endswith(b"\n"))):
        return True
    return whole is not None and whole.encode() != content and whole.encode().startswith(content)


def _shown(path: Path, names: list[str]) -> str:
    shown = [f"{name}/" if (path / name).is_dir() else name for name in names[:_NAMES_SHOWN]]
    more = f" and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(shown) + more


def _kind(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except OSError:
        return "a broken link"
    if stat.S_ISREG(mode):
        return "a file"
    return "a folder" if stat.S_ISDIR(mode) else "neither a file nor a folder"
