"""A run's folder: its configuration, its metrics and its checkpoints, each written whole."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from logitbank.pipeline.models.weight_files import load_tensors
from logitbank.pipeline.student.config import TrainConfig
from logitbank.stores.errors import LogitbankError, UsageError
from logitbank.stores.files import PARTIAL, LocalFiles, write_error

CONFIG, METRICS = "config.yaml", "metrics.jsonl"
BEST, LAST, AVERAGE = "best.pt", "last.pt", "ema.pt"
Metrics = dict[str, Any]


class RunFolder:
    """The folder that a run writes to, and finds its own earlier steps in.

    Every file appears in it whole or not at all, so a run can be killed at any moment.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = LocalFiles(path)

    @classmethod
    def find(cls, path: Path, config: TrainConfig) -> RunFolder:
        """Look at a folder, which need not exist yet; nothing is written.

        Raises:
            UsageError: the path is a file.
            LogitbankError: it holds a run of another configuration, each difference is listed.
        """
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file: --out names a folder for the run")
        run = cls(path)
        found = run.config()
        if found is None and (path / LAST).exists():
            raise LogitbankError(f"{path} holds {LAST} but no {CONFIG}: give another --out")
        if found is not None and (different := found.differences(config)):
            raise LogitbankError(
                f"{path} holds a run of another configuration ({'; '.join(different)}): give "
                "another --out, or remove it"
            )
        return run

    def begin(self, config: TrainConfig) -> None:
        """Make the folder and its `config.yaml`, and clear what a killed run left half-written.

        Raises:
            StoreError: it can't be written.
        """
        try:
            for path in self.path.glob(f"*{PARTIAL}"):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise write_error(self.path, error) from error
        self.put_text(CONFIG, config.to_yaml())

    def config(self) -> TrainConfig | None:
        """Read the run's configuration, None where there is no run yet.

        Raises:
            LogitbankError: the file is damaged.
        """
        content = self._files.get(CONFIG)
        if content is None:
            return None
        where = str(self.path / CONFIG)
        try:
            return TrainConfig.from_yaml(content.decode(), where)
        except (UnicodeDecodeError, UsageError) as error:
            raise LogitbankError(f"{where}: {error}") from error

    def put_text(self, name: str, text: str) -> None:
        """Write a text file whole."""
        self._files.put(name, [text.encode()])

    def put_metrics(self, epochs: Sequence[Metrics]) -> None:
        """Write `metrics.jsonl`: one object an epoch, from the first on."""
        self.put_text(METRICS, "".join(json.dumps(epoch) + "\n" for epoch in epochs))

    def put_checkpoint(self, name: str, content: dict[str, Any]) -> None:
        """Write a checkpoint whole, and flush it to the disk."""
        buffer = io.BytesIO()
        torch.save(content, buffer)
        self._files.put(name, [buffer.getbuffer()])
        self._files.sync([name])

    def checkpoint(self, name: str) -> dict[str, Any] | None:
        """Read a checkpoint of this run onto the CPU, None where there is none yet.

        Raises:
            LogitbankError: the file is damaged, or is none of a run's.
        """
        path = self.path / name
        if not path.exists():
            return None
        content = load_tensors(path)
        if not isinstance(content, dict) or "training" not in content:
            raise LogitbankError(f"{path} is not a checkpoint of a run: remove it, or the folder")
        return content
