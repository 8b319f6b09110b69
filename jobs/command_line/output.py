"""Output streams that accept everything a job prints: a terminal, an ASCII pipe, or none."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO, cast

from logitbank.stores.files.printable import printable

_ASCII_FORMS = {
    "±": "+-",
    "×": "x",
    "÷": "/",
    "·": "*",
    "−": "-",
    "–": "-",
    "—": "-",
    "µ": "u",
    "…": "...",
}


@contextmanager
def readable_output() -> Iterator[None]:
    """Make stdout and stderr accept everything that jobs print, within a `with` block.

    Characters that an encoding does not have are replaced by ASCII. Control characters in the name
    of a dataset, a model or a store are escaped on stdout; stderr needs them for progress bars.
    """
    codecs.register_error("logitbank", _in_ascii)
    with ExitStack() as stack:
        stdout, stderr = _opened(sys.stdout, stack), _opened(sys.stderr, stack)
        lines = cast(TextIO, PrintableLines(stdout))
        stack.enter_context(contextlib.redirect_stdout(lines))
        stack.enter_context(contextlib.redirect_stderr(stderr))
        yield


class PrintableLines:
    """A stream that writes lines of text with their control characters escaped."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write lines, or part of one."""
        self._stream.write("\n".join(map(printable, text.split("\n"))))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_closed_descriptors() -> None:
    """Open the null device as stdin, stdout or stderr if the caller closed them.

    Otherwise the next file opened, such as a store's, would get the descriptor that prints go to.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # It gets the lowest free descriptor: this one.


def _opened(stream: TextIO | None, stack: ExitStack) -> TextIO:
    """Return a stream that accepts every character; the null device in place of a closed one."""
    if stream is None:
        return stack.enter_context(open(os.devnull, "w", encoding="utf-8", errors="replace"))
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="logitbank")
    return stream


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Return ASCII in place of characters that an encoding does not have."""
    assert isinstance(error, UnicodeEncodeError), "streams of text are written"
    missing = error.object[error.start : error.end]
    shown = [
        _ASCII_FORMS.get(letter) or letter.encode("ascii", "backslashreplace").decode()
        for letter in missing
    ]
    return "".join(shown), error.end
