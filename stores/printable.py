"""Names as they are shown: what would act on a terminal, or break a line, is written out."""

from __future__ import annotations

import re

# Controls, separators of lines and paragraphs, marks that reorder text, halves of pairs.
_ACTING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Write out every character of a text that is not merely shown, as \xNN or \uNNNN.

    >>> print(printable("a\x1b[2Jb\n\u202ec\udcff"))
    a\x1b[2Jb\x0a\u202ec\udcff
    """
    return _ACTING.sub(_written_out, text)


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
