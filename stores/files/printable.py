"""Making text from outside, such as file names and manifest values, safe to print on one line."""

from __future__ import annotations

import unicodedata
from typing import Any

LONGEST = 200


def printable(text: str) -> str:
    r"""Escape characters that would break a line of a terminal or act on it.

    These are control characters, line and paragraph separators, marks that change the direction of
    writing, and bytes of a file name that are not UTF-8. Printable text of any script is kept.

    >>> printable("a\x1b[2Jb\nc"), printable("größe 大きさ")
    ('a\\x1b[2Jb\\nc', 'größe 大きさ')
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def shortened(value: Any, longest: int = LONGEST) -> str:
    """Return the repr of a value, shortened in the middle if it is long.

    >>> shortened("x" * 1000, 10)
    "'xxx…xxxx'"
    """
    text = repr(value)
    if len(text) <= longest:
        return text
    start = (longest - 1) // 2
    return f"{text[:start]}…{text[len(text) - (longest - 1 - start) :]}"


def _escaped(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    code = ord(character)
    # Python's surrogate for a byte of a name that is not UTF-8.
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return repr(character)[1:-1]
