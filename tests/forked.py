"""Running something in a process forked from the test's, where a hang must not be the test's."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any


def forked(work: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Give what some work gives in a forked process; one that hangs is killed and fails the test.

    Args:
        work: gives something small and plain.
        seconds: it takes far less unless it hangs.
    """
    context = multiprocessing.get_context("fork")
    received, sent = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sent.send(work()))
    process.start()
    sent.close()
    try:
        assert received.poll(seconds), "the forked process hangs"
        return received.recv()
    finally:
        process.kill()
        process.join()
