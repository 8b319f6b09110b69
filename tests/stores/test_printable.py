"""Names are shown as they are, but for what would act on a terminal or break a line."""

from __future__ import annotations

import pytest

from logitbank.stores.printable import printable


@pytest.mark.parametrize("text", ["", "raw.zarr", "naïve 猫.png", "a  b", "\\x1b", "👍🏽"])
def test_what_is_merely_shown_stays(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        ("one\nlogitbank: error: two\r", r"one\x0alogitbank: error: two\x0d"),
        ("\x7f\x80\x9b\0\t", r"\x7f\x80\x9b\x00\x09"),
        ("\u2028\u2029\u0085", r"\u2028\u2029\x85"),
        ("cat\u202egnp.exe\u2069\u200f", r"cat\u202egnp.exe\u2069\u200f"),
        ("caf\udce9", r"caf\udce9"),
    ],
)
def test_what_acts_is_written_out(text, shown):
    assert printable(text) == shown
