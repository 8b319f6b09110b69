"""What jobs print, fit for where it goes: a terminal, a pipe of few characters, or nowhere."""

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

_IN_ASCII = {
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
    """Make stdout and stderr take all that jobs print, for the time of a `with` block.

    Characters that an encoding lacks are written otherwise. On stdout nothing acts on a terminal,
    whatever a dataset, a model or a store is called; stderr is left its progress bar.
    """
    codecs.register_error("logitbank", _in_ascii)
    with ExitStack() as stack:
        stdout, stderr = _opened(sys.stdout, stack), _opened(sys.stderr, stack)
        lines = cast(TextIO, PrintableLines(stdout))
        stack.enter_context(contextlib.redirect_stdout(lines))
        stack.enter_context(contextlib.redirect_stderr(stderr))
        yield


class PrintableLines:
    """A stream that takes lines of text and writes all but their ends through `printable`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write lines, or parts of one."""
        self._stream.write("\n".join(map(printable, text.split("\n"))))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_closed_descriptors() -> None:
    """Open the null device as stdin, stdout and stderr where the caller closed them.

    Else the next files to be opened, such as a store's, would be taken for them by what prints.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # It takes the lowest descriptor that is free: this.


def _opened(stream: TextIO | None, stack: ExitStack) -> TextIO:
    """Return a stream that takes every character: one that is closed leads nowhere."""
    if stream is None:
        return stack.enter_context(open(os.devnull, "w", encoding="utf-8", errors="replace"))
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="logitbank")
    return stream


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Write out what an encoding lacks: signs in letters, all else by its number."""
    assert isinstance(error, UnicodeEncodeError), "streams of text are written"
    missing = error.object[error.start : error.end]
    shown = [
        _IN_ASCII.get(letter) or letter.encode("ascii", "backslashreplace").decode()
        for letter in missing
    ]
    return "".join(shown), error.end
