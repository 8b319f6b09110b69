"""One line for failures that no job handles itself: a full disk, too little memory."""

from __future__ import annotations

from logitbank.stores.files import is_disk_full


def failure_line(error: Exception) -> str | None:
    """Return what is wrong with the machine or a file, None if the failure is a bug."""
    if isinstance(error, OSError):
        return _file_line(error)
    text = str(error)
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        detail = " ".join(text.split())
        return "there is not enough memory" + (f": {detail}" if detail else "")
    if isinstance(error, RecursionError):
        return "the input is nested too deeply"
    if isinstance(error, RuntimeError) and "can't start new thread" in text:
        return (
            "no more threads can be started: raise the limit (ulimit -u, or the batch job's "
            "number of processes), or end other processes"
        )
    return None


def _file_line(error: OSError) -> str:
    if is_disk_full(error):
        return f"the disk is full: {error.filename or 'a file'} was not written"
    return str(error)
