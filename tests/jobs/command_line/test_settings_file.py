"""`--config FILE.yaml`: settings mean what the same words mean behind flags, or are one line."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from logitbank.jobs.command_line.arguments import JobParser
from logitbank.jobs.train import add_arguments
from logitbank.stores.errors import UsageError
from tests.jobs.command import run

LEAST = "dataset: digits\nstudent: cifar:resnet8\nout: run\n"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{below}'] * 10)}]\n"
    for below, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.fixture
def parsed(tmp_path, monkeypatch):
    """Parses `train` with a file of settings."""
    monkeypatch.chdir(tmp_path)

    def parse(text: str, *words: str) -> argparse.Namespace:
        Path("job.yaml").write_text(text)
        parser = JobParser(prog="logitbank train")
        add_arguments(parser)
        return parser.parse_job(["--config", "job.yaml", *words])

    return parse


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        # YAML 1.1 would read these as false, 8, 750, a date and a text.
        ("student: no", "student", "no"),
        ("seed: 010", "seed", 10),
        ("teacher: 12:30", "teacher", "12:30"),
        ("eval-dataset: 2020-01-01", "eval_dataset", "2020-01-01"),
        ("lr: 5e-2", "lr", 0.05),
        ("seed: 1_000", "seed", 1000),
        # Switches are what they are in YAML.
        ("amp: yes", "amp", True),
        ("amp: off", "amp", False),
        ("amp: true", "amp", True),
        ("torchcompile: true", "torchcompile", "inductor"),
        ("torchcompile: false", "torchcompile", None),
        ("torchcompile: eager", "torchcompile", "eager"),
        # A flag of many values takes one, too.
        ("soft-labels: raw.zarr", "soft_labels", ["raw.zarr"]),
        ("soft_labels: [a, b]", "soft_labels", ["a", "b"]),
        ("milestones: 150", "milestones", [150]),
        ("milestones: []", "milestones", []),
        ("loss-setting: beta=6", "loss_setting", [("beta", "6")]),
        # Nothing is what a flag has that isn't given.
        ("limit: null", "limit", None),
        ("teacher:", "teacher", None),
        ("soft-labels: []", "soft_labels", []),
    ],
)
def test_a_setting_means_what_is_written(parsed, line, name, value):
    others = [least for least in LEAST.splitlines() if not line.startswith(least.split(":")[0])]
    assert getattr(parsed("\n".join([*others, line])), name) == value


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("epochs: null", "epochs has no value: write one, or leave the name out"),
        ("amp: null", "amp has no value"),
        ("soft-labels: null", "soft-labels has no value"),
        ("soft-labels: [null]", "soft-labels takes a text or number, not nothing"),
        ("soft-labels: [[a]]", "soft-labels takes a text or number, not a list"),
        ("epochs: [1, 2]", "epochs takes a text or number, not a list"),
        ("epochs: {a: 1}", "epochs takes a text or number, not a mapping"),
        ("loss-setting: {beta: 6}", "loss-setting takes a text or number, not a mapping"),
        ("teacher: !!binary aGk=", "teacher takes a text or number, not bytes"),
        ('teacher: "a\\0b"', "teacher contains a NUL character"),
        ("amp: maybe", "amp must be true or false, not 'maybe'"),
        ("amp: [true]", "amp must be true or false, not ['true']"),
        ("epochs: 1e3", "epochs: '1e3' is not a whole number"),
        ("epochs: 0o7", "epochs: '0o7' is not a whole number"),
        ("epochs: 1.0", "epochs: '1.0' is not a whole number"),
        ("epochs: yes", "epochs: 'yes' is not a whole number"),
        ("lr: .nan", "lr: '.nan' is not a finite number"),
        ("lr: 1:30", "lr: '1:30' is not a finite number"),
        ("config: other.yaml", "unknown setting in job.yaml 'config'"),
        ("help: true", "unknown setting in job.yaml 'help'"),
        ("null: 1", "unknown setting in job.yaml 'None'"),
        ("epochs: 1\nepochs: 2", "gives 'epochs' twice"),
        ("batch-size: 1\nbatch_size: 2", "batch-size and batch_size are the same setting"),
        ("teacher: &a [*a]", "refers to itself"),
        ("teacher: " + "[" * 5000, "is nested more than"),
        (BOMB, "has more than 20,000 values"),
        ("teacher: 2020-13-45", "is not YAML"),
        ("teacher: " + "9" * 5000, "is not YAML"),
    ],
)
def test_what_cant_be_meant_is_one_line(parsed, line, says):
    with pytest.raises(UsageError) as raised:
        parsed(LEAST + line + "\n")
    assert says in str(raised.value)
    assert "job.yaml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_positional_argument_of_many_values_may_stand_in_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text("recipes: [digits/kd]\ndataset: digits\nout: rep\ndry-run: true\n")
    assert run("reproduce", "--config", "job.yaml") == 0
    assert "students/digits/kd" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["config", "queue"])
@pytest.mark.parametrize("what", ["pipe", ".", "/dev/zero", "loop", "huge", "latin", "latin/x"])
def test_what_is_no_file_of_settings_is_not_read(tmp_path, monkeypatch, capsys, kind, what):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    Path("latin").write_bytes(b"caf\xe9: 1\n")
    with open("huge", "wb") as file:
        file.truncate(2**40)
    words = ["correct", "raw", "--correction", "sort", "--out", "o"]
    given = ["--config", what] if kind == "config" else ["--cluster", f"slurm:{what}"]
    assert run(*words, *given) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert what in error


def test_config_without_a_file_is_one_line(capsys):
    assert run("inspect", "--config") == 2
    assert capsys.readouterr().err == (
        "logitbank inspect: error: argument --config: expected one argument\n"
    )
