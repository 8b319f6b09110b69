"""What a failure that no job foresaw means, in one line: a full disk, too little memory."""

from __future__ import annotations

from logitbank.stores.files import is_disk_full


def failure_line(error: Exception) -> str | None:
    """Say what the machine or a file lacks, None where the failure is a bug."""
    if isinstance(error, OSError):
        return _file_line(error)
    text = str(error)
    if isinstance(error, MemoryError) or "out of memory" in text or "allocate memory" in text:
        told = " ".join(text.split())
        return "there is too little memory for this" + (f": {told}" if told else "")
    if isinstance(error, RecursionError):
        return "something is nested too deeply to be read"
    if isinstance(error, RuntimeError) and "can't start new thread" in text:
        return (
            "no further thread may be started here: raise the limit (ulimit -u, or the job's "
            "number of processes), or end other processes"
        )
    return None


def _file_line(error: OSError) -> str:
    if is_disk_full(error):
        return f"the disk is full: {error.filename or 'a file'} was not written"
    return str(error)
