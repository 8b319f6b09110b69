"""A run's folder: its configuration, its metrics and its checkpoints, each written whole."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from logitbank.pipeline.student.checkpoint_file import read_checkpoint
from logitbank.pipeline.student.config import TrainConfig
from logitbank.pipeline.student.run_contents import (
    CONFIG,
    LOCK,
    METRICS,
    is_own_partial,
    read_config,
    require_run_folder,
)
from logitbank.stores.errors import LogitbankError, StoreError
from logitbank.stores.files import LocalFiles, write_error
from logitbank.stores.locks.owner_lock import Held, OwnerLock, owner_lock

Metrics = dict[str, Any]
_LOG = logging.getLogger(__name__)


class RunFolder:
    """The folder that a run writes to and resumes from.

    Every file appears in it whole or not at all, flushed to the disk, so a run can be killed, and
    its machine lost, at any moment. `owned` locks it for one process: only then is it resumed from
    and written.
    """

    def __init__(self, path: Path, lock: OwnerLock | None = None) -> None:
        self.path = path
        self._lock = lock
        self._files = LocalFiles(path, durable=True)

    @classmethod
    def find(cls, path: Path, config: TrainConfig) -> RunFolder:
        """Return the run of a folder, which need not exist yet; nothing is written.

        Raises:
            UsageError: it is a file, a store, or holds anything but a run.
            LogitbankError: it holds a run of another configuration (each difference is listed), or
                a `config.yaml` that is not one.
        """
        require_run_folder(path)
        run = cls(path)
        found = run.config(config)
        if found is not None:
            run.require_same(found, config)
        return run

    @contextmanager
    def owned(self) -> Iterator[RunFolder]:
        """Lock the folder for this process for the time of a `with` block.

        A process that died does not keep it locked: it is free at once on the same machine, within
        a minute elsewhere. A folder that nothing was written into is removed again.

        Yields:
            The run, which refuses to write once another process has the folder: a process that was
            suspended for longer than that minute stops.

        Raises:
            LogitbankError: another process has it; the message names that process.
            StoreError: the folder can't be written.
        """
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.path} can't be made: {error}") from error
        try:
            with owner_lock(self.path / LOCK, busy=self._refuse_or_wait()) as lock:
                yield RunFolder(self.path, lock)
        finally:
            with contextlib.suppress(OSError):
                for folder in made:
                    folder.rmdir()

    def begin(self, config: TrainConfig) -> None:
        """Write `config.yaml`, and remove what a killed run left half-written.

        Raises:
            StoreError: it can't be written.
        """
        try:
            for name in os.listdir(self.path):
                if is_own_partial(name):
                    (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise write_error(self.path, error) from error
        self.put_text(CONFIG, config.to_yaml())

    def config(self, wanted: TrainConfig | None = None) -> TrainConfig | None:
        """Read the run's configuration, None if there is no run yet, or a torn file.

        Args:
            wanted: what it should be, by which a file that is cut short is recognised.

        Raises:
            LogitbankError: the file holds anything else.
        """
        return read_config(self.path, whole=None if wanted is None else wanted.to_yaml())

    def require_same(self, found: TrainConfig, wanted: TrainConfig) -> None:
        """Check that a configuration learns the same.

        Raises:
            LogitbankError: it differs; each difference is listed.
        """
        if different := found.differences(wanted):
            raise LogitbankError(
                f"{self.path} holds a run of another configuration ({'; '.join(different)}): name "
                "another --out"
            )

    def has(self, name: str) -> bool:
        """Return whether there is a file of this name."""
        return (self.path / name).exists()

    def text(self, name: str) -> str:
        """Return the content of a text file, empty if there is none."""
        return (self._files.get(name) or b"").decode(errors="replace")

    def put_text(self, name: str, text: str) -> None:
        """Write a text file whole.

        Raises:
            LogitbankError: another process has taken the folder over.
            StoreError: it can't be written.
        """
        self._put(name, text.encode())

    def put_metrics(self, epochs: Sequence[Metrics]) -> None:
        """Write `metrics.jsonl`: one object per epoch, from the first on."""
        self.put_text(METRICS, metrics_text(epochs))

    def put_checkpoint(self, name: str, content: dict[str, Any]) -> None:
        """Write a checkpoint whole."""
        buffer = io.BytesIO()
        torch.save(content, buffer)
        self._put(name, buffer.getbuffer())

    def checkpoint(self, name: str, *, mapped: bool = False) -> dict[str, Any] | None:
        """Read a checkpoint of this run onto the CPU, None where there is none yet.

        Raises:
            DamagedCheckpointError: its bytes are not those that were written.
            LogitbankError: it is not a run's.
        """
        return read_checkpoint(self.path / name, mapped=mapped)

    def set_aside(self, name: str, ending: str) -> str:
        """Rename a file to a free name, and return that.

        Raises:
            LogitbankError: another process has taken the folder over.
            StoreError: it can't be renamed.
        """
        self._require_owner()
        number, free = 1, f"{name}.{ending}"
        while os.path.lexists(self.path / free):
            number, free = number + 1, f"{name}.{ending}{number + 1}"
        try:
            os.rename(self.path / name, self.path / free)
        except OSError as error:
            raise write_error(self.path / name, error) from error
        return free

    def _put(self, name: str, content: bytes | memoryview) -> None:
        self._require_owner()
        self._files.put(name, [content])

    def _require_owner(self) -> None:
        if self._lock is None or self._lock.is_held():
            return
        owner = self._lock.next_owner()
        cause = f"has been taken over by {owner.describe()}" if owner else "has lost its lock"
        raise LogitbankError(
            f"{self.path} {cause}, while this process slept or its disk did not answer: it stops "
            "here, and overwrites nothing"
        )

    def _refuse_or_wait(self) -> Callable[[Held], None]:
        """Return what to do while another has the folder: refuse if it is alive, else wait."""
        has_warned = False

        def busy(held: Held) -> None:
            nonlocal has_warned
            owner = held.owner.describe() if held.owner else "another process"
            if held.is_alive:
                raise LogitbankError(
                    f"{self.path} is being written by {owner}: a run's folder takes one process at "
                    "a time; wait until that has ended, or name another --out"
                )
            if not has_warned:
                _LOG.warning(
                    "%s was being written by %s: waiting for a sign of it, a minute at most, "
                    "before going on from there",
                    self.path,
                    owner,
                )
                has_warned = True

        return busy


def metrics_text(epochs: Sequence[Metrics]) -> str:
    """Return the content of `metrics.jsonl`."""
    return "".join(json.dumps(epoch) + "\n" for epoch in epochs)


def is_whole(text: str) -> bool:
    """Return whether a text is whole lines of JSON, as from `metrics_text`."""
    try:
        for line in text.splitlines():
            json.loads(line)
    except (ValueError, RecursionError):
        return False
    return bool(text) and text.endswith("\n")
