"""`logitbank JOB`: find the job, parse its arguments, run it, and report errors in one line."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TextIO

from logitbank import __version__
from logitbank.jobs.command_line.arguments import JobParser
from logitbank.jobs.command_line.failures import failure_line
from logitbank.jobs.command_line.malloc import keep_freed_memory
from logitbank.jobs.command_line.output import open_closed_descriptors, readable_output
from logitbank.stores.errors import LogitbankError, UsageError, unknown_name
from logitbank.stores.files.printable import printable

JOBS = {
    "cache": "run a teacher over views of a dataset and store its logits",
    "correct": "make a corrected store from a raw one (sort, swap or your own)",
    "train": "train a student from a store, from labels, or with the teacher in the loop",
    "train-teacher": "train a teacher from labels",
    "evaluate": "measure the accuracy of a model on centre crops",
    "inspect": "show what a store contains, how it was made and how often its teacher is wrong",
    "verify": "check every byte of a store and list what is damaged",
    "report": "write a page with figures on stores and the runs that learned from them",
    "bench": "measure what the cache costs a student, and the speed of views and corrections",
    "reproduce": "run recipes of the papers: stores, corrections, students over seeds, one table",
    "demo": "run everything end to end on scikit-learn's digits, with a report",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job.

    Returns:
        0 if the job is done, 1 if it failed, 2 on a usage error, 75 if a signal asked it to stop,
        130 if it was interrupted, 141 if the reader of its output has gone.
    """
    # Beside other work, idle OpenMP threads that spin cost a small torch operation 16 ms.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_freed_memory()
    argv = list(sys.argv[1:] if arguments is None else arguments)
    open_closed_descriptors()
    with readable_output():
        return _exit_code(argv)


def _exit_code(argv: Sequence[str]) -> int:
    """Run the job, and turn a failure into an error line and an exit code."""
    job = argv[0] if argv else ""
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except UsageError as error:
        return _fail(job, error, 2)
    except LogitbankError as error:
        return _fail(job, error, 1)
    except BrokenPipeError as error:
        return 128 + signal.SIGPIPE if _reader_is_gone() else _fail(job, error, 1)
    except KeyboardInterrupt:
        return _fail(job, "interrupted: run the same command again to go on from here", 130)
    except Exception as error:
        line = failure_line(error)
        if line is None:
            raise
        return _fail(job, line, 1)


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"logitbank {__version__}")
        return 0
    _require_current_folder()
    return run_job(argv[0], argv[1:])


def _require_current_folder() -> None:
    """Raise if the current folder was removed: libraries of torch would end the process."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise LogitbankError("the current folder was removed: change to another one") from None


def run_job(name: str, arguments: Sequence[str]) -> int:
    """Import a job's module, parse its arguments and run it.

    Raises:
        UsageError: there is no such job, or an argument is wrong.
    """
    if name not in JOBS:
        raise unknown_name("job", name, JOBS)
    job = import_module(f"logitbank.jobs.{name.replace('-', '_')}")
    parser = JobParser(prog=f"logitbank {name}", description=JOBS[name])
    job.add_arguments(parser)
    return job.run(parser.parse_job(arguments)) or 0


def usage() -> str:
    """Return the text of `logitbank --help`."""
    lines = [f"  {name:<14} {text}" for name, text in JOBS.items()]
    return "\n".join(
        [
            "usage: logitbank JOB [options]",
            "",
            "Run the teacher once, store its logits, correct them, teach any number of students.",
            "",
            *lines,
            "",
            "logitbank JOB --help shows the options of a job.",
        ]
    )


def _reader_is_gone() -> bool:
    """Return whether the reader of stdout has gone, as `head` does; discard the rest if so."""
    try:
        descriptor = sys.stdout.fileno()
    except OSError:
        return False  # It is not backed by a file descriptor.
    output = select.poll()
    output.register(descriptor, 0)
    if not any(event & select.POLLERR for _, event in output.poll(0)):
        return False
    _drop(sys.stdout)
    return True


def _fail(job: str, error: BaseException | str, code: int) -> int:
    line = printable(" ".join(str(error).split()))
    prefix = f"logitbank {job}" if job in JOBS else "logitbank"
    for stream, text in ((sys.stdout, ""), (sys.stderr, f"{prefix}: error: {line}\n")):
        try:
            stream.write(text)
            stream.flush()
        except OSError:
            _drop(stream)  # Its buffer could not be written when Python exits, either.
    return code


def _drop(stream: TextIO) -> None:
    """Discard the buffer of a stream and everything written later."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
