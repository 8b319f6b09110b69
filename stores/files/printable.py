"""Text from outside, such as names of files and what manifests say, made safe for one line."""

from __future__ import annotations

import unicodedata
from typing import Any

LONGEST = 200


def printable(text: str) -> str:
    r"""Escape what would not appear in a terminal's line but act on it, or break it.

    Control characters, line and paragraph separators, marks that turn the direction of writing, and
    the bytes of a file's name that are no UTF-8. What is printable in any script stays as it is.

    >>> printable("a\x1b[2Jb\nc"), printable("größe 大きさ")
    ('a\\x1b[2Jb\\nc', 'größe 大きさ')
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def shortened(value: Any, longest: int = LONGEST) -> str:
    """Give the repr of a value, cut in its middle where it is long.

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
    # How Python holds a byte of a name that is no UTF-8.
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return repr(character)[1:-1]
