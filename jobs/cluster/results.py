"""The result of a Dask task, as it travels to the client."""

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
    """A value, or a line that says why there is none.

    `seconds` is the time spent on computing, without opening; `host` is the worker's machine.
    """

    value: Value | None
    seconds: float
    host: str
    error: str | None = None


def run_task(open_task: Callable[[], Opened], work: Callable[[Opened], Value]) -> TaskResult[Value]:
    """Open a task and do some work with it; return failures that a user can act on as results.

    Returned rather than raised, their message reaches the user without Dask's traceback.
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
