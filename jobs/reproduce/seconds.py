"""The seconds that stages took, summed over all runs of the same command."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter

from logitbank.jobs.demo.stages import Stage
from logitbank.stores.errors import LogitbankError
from logitbank.stores.files import LocalFiles

SECONDS = "seconds.json"
_ENTRIES = TypeAdapter(dict[str, tuple[float, bool]])


class StageSeconds:
    """Seconds by stage, kept in a folder; a finished stage is not timed again.

    An interrupted stage keeps the time until then, unless the process is killed.

    Args:
        out: the folder of `seconds.json`.

    Raises:
        LogitbankError: the file is damaged.
    """

    def __init__(self, out: Path) -> None:
        self._out, self._files = out, LocalFiles(out, durable=True)
        content = self._files.get(SECONDS)
        try:
            self._entries = _ENTRIES.validate_python(json.loads(content or "{}"))
        except (ValueError, RecursionError) as error:
            raise LogitbankError(
                f"{out / SECONDS} is damaged: it holds the seconds that stages took, so move it "
                "elsewhere to go on without them"
            ) from error

    def run(self, stage: Stage, work: Callable[[], int]) -> int:
        """Time the work of a stage, and return its exit code, 0 if it is done."""
        before, done = self._entries.get(self._name(stage), (0.0, False))
        if done:
            return work()
        began = time.perf_counter()
        try:
            code = work()
            done = code == 0
        finally:
            spent = round(before + time.perf_counter() - began, 3)
            self._entries[self._name(stage)] = (spent, done)
            self._files.put(SECONDS, [json.dumps(self._entries, indent=1).encode()])
        return code

    def total(self, stages: tuple[Stage, ...]) -> float:
        """Return the seconds that these stages took in all."""
        return sum(self._entries.get(self._name(stage), (0.0, False))[0] for stage in stages)

    def _name(self, stage: Stage) -> str:
        """Return a stage's path in the folder, which stays the same if the folder is renamed."""
        return stage.output.relative_to(self._out).as_posix()
