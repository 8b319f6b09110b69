"""What a Dask task tells the process that handed it out."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from logitbank.stores.errors import LogitbankError

Value = TypeVar("Value")
Opened = TypeVar("Opened")


@dataclass(frozen=True)
class TaskResult(Generic[Value]):
    """A value, or the one line that says why there is none.

    `seconds` is the time that computing took, without opening; `host` says where.
    """

    value: Value | None
    seconds: float
    host: str
    error: str | None = None


def run_task(open_task: Callable[[], Opened], work: Callable[[Opened], Value]) -> TaskResult[Value]:
    """Do some work with what was opened; a failure that a user can act on is a result as well.

    So its one line reaches the user as it is, whatever carries results from process to process.
    """
    host, seconds = platform.node(), 0.0
    try:
        opened = open_task()
        started = time.perf_counter()
        value = work(opened)
        seconds = time.perf_counter() - started
    except (LogitbankError, OSError) as error:
        return TaskResult(None, seconds, host, str(error) or type(error).__name__)
    return TaskResult(value, seconds, host)
