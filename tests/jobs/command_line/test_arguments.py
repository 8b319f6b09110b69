"""Values of flags that can't be meant are one line, before any work."""

from __future__ import annotations

import argparse

import pytest

from logitbank.jobs.command_line import arguments
from tests.jobs.command import run
from tests.jobs.conftest import cache_words

MANY = "9" * 20
ENDLESS = "9" * 5000

TRAIN = ["train", "--dataset", "digits", "--student", "cifar:resnet8", "--out", "nowhere"]
CACHE = cache_words("cifar:resnet8@nowhere.pt", "nowhere")  # type: ignore[arg-type]
EVALUATE = ["evaluate", "--dataset", "digits", "--model", "cifar:resnet8"]
REPRODUCE = ["reproduce", "digits/kd", "--dataset", "digits", "--out", "nowhere", "--dry-run"]
DEMO = ["demo", "--out", "nowhere", "--dry-run"]

CASES = [
    *((EVALUATE, "--limit", value) for value in (MANY, ENDLESS, "0", "1e3", "nan", "")),
    *((EVALUATE, "--workers", value) for value in ("0", "4097", MANY)),
    (EVALUATE, "--batch-size", MANY),
    *((CACHE, "--seed", value) for value in ("-1", str(2**64), "1.0", ENDLESS)),
    *((CACHE, "--views", value) for value in (MANY, ENDLESS)),
    *((CACHE, "--expect-top1", value) for value in ("nan", "inf", "0")),
    *((CACHE, "--part", value) for value in (f"0/{MANY}", f"{ENDLESS}/{ENDLESS}")),
    *((CACHE, "--cluster", value) for value in (f"local:{ENDLESS}", "local:10000")),
    *((TRAIN, "--lr", value) for value in ("nan", "inf", "1e308", "")),
    *((TRAIN, flag, "nan") for flag in ("--momentum", "--weight-decay", "--temperature")),
    *((TRAIN, flag, "nan") for flag in ("--ce-weight", "--kd-weight", "--model-ema-decay")),
    (TRAIN, "--weight-decay", "1e308"),
    (TRAIN, "--temperature", "1e300"),
    (TRAIN, "--seed", str(2**64)),
    (TRAIN, "--threads", str(2**31)),
    (TRAIN, "--skip", MANY),
    (["verify", "nowhere"], "--workers", "nan"),
    (["correct", "nowhere", "--correction", "sort", "--out", "o"], "--threads", MANY),
    (["bench", "views"], "--rounds", "0"),
    (["bench", "views"], "--threads", "5000"),
    (["bench", "correct"], "--folder", "/proc"),
    (["bench", "correct"], "--folder", "/nowhere"),
    *((REPRODUCE, "--scale", value) for value in ("nan", "inf", "-1", "2")),
    *((REPRODUCE, "--device", value) for value in ("meta", "hpu", "xpu", "cuda:99")),
    *((REPRODUCE, "--seeds", value) for value in ("0", MANY, str(10**9))),
    *((REPRODUCE, "--views", value) for value in ("82", str(10**9))),
    *((DEMO, "--lr", value) for value in ("nan", "0", "-1")),
    (DEMO, "--seeds", str(10**9)),
    (DEMO, "--views", "82"),
    (DEMO, "--student", "cifar:resnet9"),
    (DEMO, "--teacher", "x"),
    (DEMO, "--device", "meta"),
]


@pytest.mark.parametrize(
    ("words", "flag", "value"),
    CASES,
    ids=[f"{words[0]} {flag} {value[:24]}" for words, flag, value in CASES],
)
def test_a_value_that_cant_be_meant_is_one_line(tmp_path, monkeypatch, capsys, words, flag, value):
    monkeypatch.chdir(tmp_path)
    assert run(*words, flag, value) in (1, 2)
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    named = value.rpartition(":")[2]
    assert flag in captured.err or (named and named in captured.err)
    assert captured.err.startswith(f"logitbank {words[0]}: error: ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (arguments.positive, "1", 1),
        (arguments.positive, str(10**12), 10**12),
        (arguments.non_negative, "0", 0),
        (arguments.seed, str(2**64 - 1), 2**64 - 1),
        (arguments.threads, "4096", 4096),
        (arguments.finite, "-1e30", -1e30),
        (arguments.positive_number, "1e-9", 1e-9),
        (arguments.view_count, "all", "all"),
        (arguments.view_count, "100000", "100000"),
        (arguments.percent, "100", 100.0),
    ],
)
def test_the_last_value_within_bounds_is_taken(parse, text, value):
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "says"),
    [
        (arguments.positive, str(10**12 + 1), "'1000000000001' is too large: 1,000,000,000,000"),
        (arguments.seed, str(2**64), "is too large: 18,446,744,073,709,551,615 at most"),
        (arguments.seed, "-1", "'-1' is not a whole number of at least 0"),
        (arguments.finite, "1.1e30", "'1.1e30' is too large: 1e+30 at most"),
        (arguments.finite, "-inf", "'-inf' is not a finite number"),
        (arguments.positive_number, "-0.0", "'-0.0' is not above 0"),
        (arguments.view_count, "100001", "is too large: 100,000 at most"),
    ],
)
def test_the_first_value_beyond_them_is_not(parse, text, says):
    with pytest.raises(argparse.ArgumentTypeError) as raised:
        parse(text)
    assert says in str(raised.value)
