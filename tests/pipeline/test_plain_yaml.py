"""Settings are read as they stand, and a hostile file is one clear line, at once."""

from __future__ import annotations

import pytest
import yaml

from logitbank.pipeline.plain_yaml import MOST_CHARACTERS, MOST_DEPTH, parse_yaml
from logitbank.stores.errors import LogitbankError

PLAIN = """
lr: 0.05
loss-setting: [beta=6, warmup=10]
usual: &usual {epochs: 3, device: null}
student: {<<: *usual, seed: 1}
again: *usual
"""


@pytest.mark.parametrize("text", [PLAIN, "", "- 1\n- [2, x]", "one word", "a: 'b'\nb: 'b'"])
def test_what_yaml_says_is_read(text):
    assert parse_yaml(text, "here") == yaml.safe_load(text)


def lists(depth: int) -> str:
    return "[" * depth + "]" * depth


def test_any_depth_that_settings_have_is_read():
    assert parse_yaml(lists(MOST_DEPTH), "here") == yaml.safe_load(lists(MOST_DEPTH))


DOUBLED = "a0: &a0 [x, x]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(30))
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}]\n" for n in range(1000))
HOSTILE = {
    "deep": (lists(20_000), f"here is nested more than {MOST_DEPTH} deep"),
    "one level too deep": (lists(MOST_DEPTH + 1), f"here is nested more than {MOST_DEPTH} deep"),
    "deep in blocks": ("- " * 20_000, f"here is nested more than {MOST_DEPTH} deep"),
    "deep by aliases": (CHAIN, f"here is nested more than {MOST_DEPTH} deep"),
    "a list in itself": ("&a [*a]", "here refers to itself"),
    "a mapping in itself": ("x: &a {y: [1, *a]}", "here refers to itself"),
    "doubled and doubled": (DOUBLED, "here has more than 20,000 values"),
    "long": ("a: " + "x" * MOST_CHARACTERS, "here has 50,003 characters"),
    "unfinished": ("lr: [", "here is not YAML: while parsing"),
    "an alias to nothing": ("a: *b", "here is not YAML: found undefined alias"),
    "a class": ("!!python/object/apply:os.getcwd []", "here is not YAML: could not determine"),
    "zeros": ("\0" * 100, "here is not YAML: unacceptable character"),
    "no such day": ("a: 2001-99-99", "here is not YAML: a value is not of its type"),
    "no number": ("a: !!int ''", "here is not YAML: a value is not of its type"),
    "a number too long": ("a: " + "9" * 9_000, "here is not YAML: a value is not of its type"),
    "a list as a name": ("? [1]\n: 2", "here is not YAML"),
    "two texts": ("a: 1\n---\na: 2", "here is not YAML: expected a single document"),
    "a name twice": ("lr: 0.1\nepochs: 3\nlr: 0.2", "here gives 'lr' twice"),
}


@pytest.mark.parametrize(("text", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_is_one_line(text, message):
    with pytest.raises(LogitbankError) as caught:
        parse_yaml(text, "here")
    line = str(caught.value)
    assert line.startswith(message)
    assert "\n" not in line
    assert len(line) < 400
