"""Making the next items in a thread while the last one is used."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

from logitbank.stores.errors import LogitbankError

Item = TypeVar("Item")

SECONDS_TO_FINISH = 20.0


def read_ahead(items: Iterable[Item], depth: int) -> Iterator[Item]:
    """Yield the items in order, with up to `depth` of them made ahead by a thread.

    An exception of the iterable is raised in its place. If the consumer stops early, the thread
    first finishes the current item and ends: a thread that still computes while Python exits would
    be interrupted in C++ code that doesn't expect it, which aborts the process.

    Raises:
        LogitbankError: a forked process continues it: the thread does not exist there.

    >>> list(read_ahead(range(4), depth=2))
    [0, 1, 2, 3]
    """
    made: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: Item | None, error: BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                made.put((item, error), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    end = StopIteration()
    process = os.getpid()

    def make() -> None:
        try:
            for item in items:
                if not put(item, None):
                    return
            put(None, end)
        except BaseException as error:
            put(None, error)

    thread = threading.Thread(target=make, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            if os.getpid() != process:
                raise LogitbankError(
                    "what one process reads ahead can't be continued in another that was forked "
                    "from it: start again there"
                )
            item, error = made.get()
            if error is end:
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        if os.getpid() == process:
            thread.join(SECONDS_TO_FINISH)
