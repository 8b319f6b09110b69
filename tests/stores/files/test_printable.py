"""What a store says is shown on a terminal's line, and does nothing to it."""

from __future__ import annotations

import os

import pytest

from logitbank.stores.files.printable import printable, shortened


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe 大きさ a b", "größe 大きさ a b"),
        ("\x1b[31m\r\n\t\x7f", r"\x1b[31m\r\n\t\x7f"),
        ("\x9b31m\x85", r"\x9b31m\x85"),
        ("a\u202egnp.exe\u2066", r"a\u202egnp.exe\u2066"),
        ("a\u2028b\u2029c\u200b", r"a\u2028b\u2029c\u200b"),
        (os.fsdecode(b"caf\xe9\xff"), r"caf\xe9\xff"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_acts_on_a_terminal_is_escaped(text, shown):
    assert printable(text) == shown
    assert printable(text).isprintable()


def test_a_long_value_is_cut_in_its_middle():
    assert len(shortened("x" * 10_000)) == 200
    assert shortened([1, 2]) == "[1, 2]"
