"""Flags of `train` and `train-teacher`: the configuration's fields, defaults by dataset."""

from __future__ import annotations

import argparse
import dataclasses
from types import SimpleNamespace

import pytest

from logitbank.jobs import train, train_teacher
from logitbank.jobs.cli import main
from logitbank.jobs.command_line.arguments import JobParser
from logitbank.jobs.command_line.train_arguments import given_fields, train_config
from logitbank.pipeline.student import TrainConfig, with_published_run
from logitbank.stores.errors import UsageError

FLAGS = {field.name: field for field in dataclasses.fields(TrainConfig) if field.metadata}
NEEDED = ("--dataset", "digits", "--out", "run")
CIFAR = {"epochs": 240, "batch_size": 64, "lr": 0.05, "weight_decay": 5e-4}
IMAGENET = {"epochs": 100, "batch_size": 512, "lr": 0.2, "weight_decay": 1e-4}


def parsed(*words: str, job=train) -> argparse.Namespace:
    parser = JobParser()
    job.add_arguments(parser)
    return parser.parse_job([*NEEDED, *words])


def flags_of(job) -> dict[str, argparse.Action]:
    parser = JobParser()
    job.add_arguments(parser)
    return {action.dest: action for action in parser._actions}


def test_every_field_has_its_flag_help_and_default():
    flags = flags_of(train)
    for name, field in FLAGS.items():
        assert flags[name].option_strings == [f"--{name.replace('_', '-')}"]
        assert flags[name].help.startswith(field.metadata["help"])
    config = train_config(parsed("--student", "cifar:resnet8"))
    assert config == TrainConfig(student="cifar:resnet8", dataset="digits")


def test_a_teacher_has_the_flags_of_a_run_alone():
    flags = flags_of(train_teacher)
    assert set(FLAGS) - set(flags) == {
        "student", "soft_labels", "correction", "teacher", "strong_augmentation", "loss",
        "temperature", "ce_weight", "kd_weight", "verify_pixels",
    }  # fmt: skip
    assert "model" in flags


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--epochs", "0"), "'0' is not a whole number of at least 1"),
        (("--skip", "-1"), "'-1' is not a whole number of at least 0"),
        (("--seed", str(2**64)), "is too large: 18,446,744,073,709,551,615 at most"),
        (("--threads", "4097"), "is too large: 4,096 at most"),
        (("--workers", "4097"), "is too large: 4,096 at most"),
        (("--limit", str(10**13)), "is too large: 1,000,000,000,000 at most"),
        (("--lr", "fast"), "'fast' is not a finite number"),
        (("--milestones", "1", "x"), "'x' is not a whole number of at least 0"),
    ],
)
def test_a_flag_has_the_bounds_of_its_field(words, says):
    with pytest.raises(UsageError) as caught:
        parsed("--student", "cifar:resnet8", *words)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("name", "images", "student", "expected", "line"),
    [
        ("cifar100", 1, "cifar:resnet8x4", CIFAR, "as published for CIFAR-100: epochs 240, batch"),
        ("cifar100", 1, "cifar:MobileNetV2", {**CIFAR, "lr": 0.01}, "as published for CIFAR-100"),
        ("cifar100", 1, "cifar:ShuffleV1@a.pt", {**CIFAR, "lr": 0.01}, "lr 0.01"),
        ("cifar100", 1, "cifar:ShuffleV2", {**CIFAR, "lr": 0.01}, "lr 0.01"),
        ("imagenet", None, "torchvision:resnet18", IMAGENET, "as published for ImageNet: epochs"),
        ("digits", 1, "cifar:resnet8", CIFAR, "nothing is published for digits, so as for CIFAR-1"),
        (
            "imagefolder",
            None,
            "timm:x",
            IMAGENET,
            "for imagefolder, so as for ImageNet: epochs 100",
        ),
    ],
)
def test_defaults_come_from_the_dataset(name, images, student, expected, line):
    dataset = SimpleNamespace(name=name, images=images)
    config, said = with_published_run(TrainConfig(student=student), dataset, ())
    assert {field: getattr(config, field) for field in expected} == expected
    assert line in said


def test_what_is_given_stays():
    dataset = SimpleNamespace(name="imagenet", images=None)
    options = parsed("--student", "cifar:resnet8", "--epochs", "3", "--lr", "1")
    config, line = with_published_run(train_config(options), dataset, given_fields(options))
    assert (config.epochs, config.lr, config.batch_size) == (3, 1.0, 512)
    assert line == "as published for ImageNet: batch size 512, weight decay 0.0001"
    config, line = with_published_run(config, dataset, CIFAR)
    assert line is None


@pytest.mark.parametrize(("job", "model"), [("train", "--student"), ("train-teacher", "--model")])
def test_a_run_says_which_settings_it_takes(tmp_path, capsys, job, model):
    words = [job, "--dataset", "digits", model, "cifar:resnet8", "--out", str(tmp_path / "run")]
    assert main([*words, "--epochs", "2", "--dry-run"]) == 0
    assert "nothing is published for digits, so as for CIFAR-100: batch" in capsys.readouterr().out
    words += ["--epochs", "1", "--batch-size", "32", "--lr", "0.1", "--weight-decay", "0"]
    assert main([*words, "--limit", "64"]) == 0
    assert "published" not in capsys.readouterr().out
