"""`logitbank train`: losses by name, their settings, pairs of stores, options, the last line."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import yaml

from logitbank.jobs.command_line.train_arguments import result_line
from logitbank.jobs.train import loss_setting
from logitbank.pipeline.losses import LOSSES
from logitbank.pipeline.student import TrainConfig, TrainResult, loss_of
from tests.jobs.command import done, run
from tests.jobs.conftest import cache_words

TRAIN = ["train", "--dataset", "digits", "--student", "cifar:resnet8", "--batch-size", 32]
SHORT = ["--epochs", 1, "--limit", 64]


@pytest.fixture(scope="module")
def strong(tmp_path_factory, teacher) -> Path:
    """Two strong views of what `raw` holds weak ones of."""
    path = tmp_path_factory.mktemp("stores") / "strong.zarr"
    done(*cache_words(teacher, path, augmentation="cifar-weak:pad=2", views=2, seed=1))
    return path


def config_of(out: Path) -> TrainConfig:
    return TrainConfig.from_yaml((out / "config.yaml").read_text(), "config.yaml")


def metrics_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def error_of(capsys, *words: object) -> str:
    assert run(*words) == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_help_names_every_loss():
    help_of_loss = TrainConfig.__dataclass_fields__["loss"].metadata["help"]
    assert set(LOSSES) - set(help_of_loss.replace(",", " ").replace(";", " ").split()) == set()


# ---- Losses and their settings


def test_a_loss_by_name_is_trained_with_the_published_settings(tmp_path, raw):
    done(*TRAIN, *SHORT, "--loss", "dkd", "--soft-labels", raw, "--out", tmp_path)
    loss = loss_of(config_of(tmp_path))
    assert (loss.name, loss.alpha, loss.beta) == ("dkd", 1.0, 8.0)
    assert "loss_nckd" in metrics_of(tmp_path)[0]


def test_settings_are_changed_by_flags_of_their_own_and_by_name(tmp_path, raw):
    words = ["--loss", "dkd", "--loss-setting", "beta=6", "alpha=2", "--loss-setting", "warmup=3"]
    words += ["--temperature", 2, "--ce-weight", 0.5]
    done(*TRAIN, *SHORT, *words, "--soft-labels", raw, "--out", tmp_path)
    settings = loss_of(config_of(tmp_path))
    assert vars(settings) == {
        "ce": 0.5,
        "alpha": 2.0,
        "beta": 6.0,
        "temperature": 2.0,
        "warmup": 3,
    }


def test_settings_of_a_file_lie_beneath_the_flags(tmp_path, raw):
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({"loss": "dkd", "loss-setting": ["beta=6", "alpha=3"]}))
    words = ["--config", file, "--loss-setting", "beta=2", "--soft-labels", raw]
    done(*TRAIN, *SHORT, *words, "--out", tmp_path / "run")
    settings = loss_of(config_of(tmp_path / "run"))
    assert (settings.alpha, settings.beta) == (3.0, 2.0)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--loss", "dkdd"], "unknown loss 'dkdd': did you mean 'dkd'?"),
        (["--loss", "dkd", "--loss-setting", "betta=6"], "unknown setting of dkd 'betta': did you"),
        (["--loss", "dkd", "--loss-setting", "beta"], "'beta' is not of the form NAME=VALUE"),
        (
            ["--loss", "dkd", "--loss-setting", "beta=lots"],
            "dkd: beta must be a number, not",
        ),
        (["--loss", "sld-kd", "--loss-setting", "temperatures=4,0"], "temperatures must be one"),
        (["--loss", "dkd", "--kd-weight", 1], "unknown setting of dkd 'kd'"),
        (["--loss", "sld"], "give --soft-labels WEAK STRONG, two stores of one teacher"),
        (["--sched", "poly"], "unknown schedule 'poly'"),
        (["--torchcompile", "inducto"], "did you mean 'inductor'?"),
    ],
)
def test_what_cant_be_meant_is_one_line(tmp_path, capsys, raw, words, says):
    line = error_of(capsys, *TRAIN, *SHORT, *words, "--soft-labels", raw, "--out", tmp_path / "run")
    assert line.startswith("logitbank train: error: ")
    assert says in line
    assert not (tmp_path / "run").exists()


def test_settings_as_typed():
    assert loss_setting("temperatures=1,2,3") == ("temperatures", ("1", "2", "3"))
    assert loss_setting("temperatures=4,") == ("temperatures", ("4",))
    for text in ("beta", "beta=", "=6"):
        with pytest.raises(argparse.ArgumentTypeError, match="NAME=VALUE"):
            loss_setting(text)


# ---- Two stores


def test_two_stores_teach_together(tmp_path, raw, strong):
    words = ["--loss", "sld", "--soft-labels", raw, strong]
    done(*TRAIN, *SHORT, *words, "--out", tmp_path)
    [line] = metrics_of(tmp_path)
    assert 0 <= line["view"] < 3
    assert 0 <= line["strong_view"] < 2
    assert config_of(tmp_path).soft_labels == (str(raw), str(strong))
    # Raw ones are swapped as they are read, not by the loss.
    assert config_of(tmp_path).teacher_correction == "swap"
    assert not loss_of(config_of(tmp_path)).swap_teacher


def test_two_raw_stores_are_sorted_as_they_are_read(tmp_path, raw, strong):
    words = ["--loss", "sld", "--correction", "sort", "--soft-labels", raw, strong]
    done(*TRAIN, *SHORT, *words, "--out", tmp_path)
    assert config_of(tmp_path).teacher_correction == "sort"
    assert not loss_of(config_of(tmp_path)).swap_teacher


def test_three_stores_and_a_pair_for_one_view_are_refused(tmp_path, capsys, raw, strong):
    words = [*TRAIN, *SHORT, "--out", tmp_path / "run", "--soft-labels", raw, strong]
    assert "takes one store, or one of weak and one of strong" in error_of(capsys, *words, raw)
    assert "--loss kd learns from one view of each image" in error_of(capsys, *words)


def test_the_plan_names_loss_settings_and_both_stores(tmp_path, capsys, raw, strong):
    words = ["--loss", "mlkd", "--soft-labels", raw, strong, "--dry-run"]
    done(*TRAIN, *SHORT, *words, "--out", tmp_path / "run")
    printed = capsys.readouterr().out
    assert "  loss mlkd: ce 0.1, kd 0.9, temperature 4.0\n" in printed
    assert f"  128 teacher forward passes are saved: {raw} and {strong} have them" in printed
    _, _, configuration = printed.partition("\n\n")
    planned = yaml.safe_load(configuration)
    assert (planned["lr"], planned["epochs"], planned["loss"]) == (0.05, 1, "mlkd")
    assert not (tmp_path / "run").exists()


# ---- Options, and the last line


def test_options_in_timms_spelling(tmp_path, raw):
    words = ["--sched", "cosine", "--warmup-epochs", 1, "--grad-accum-steps", 2, "--model-ema"]
    words += ["--model-ema-decay", 0.9, "--torchcompile", "aot_eager", "--channels-last"]
    done(*TRAIN, "--epochs", 2, "--limit", 64, *words, "--soft-labels", raw, "--out", tmp_path)
    config = config_of(tmp_path)
    assert (config.sched, config.warmup_epochs, config.grad_accum_steps) == ("cosine", 1, 2)
    assert (config.model_ema_decay, config.torchcompile) == (0.9, "aot_eager")
    assert {path.name for path in tmp_path.glob("*.pt")} == {"best.pt", "ema.pt", "last.pt"}
    assert [line["lr"] for line in metrics_of(tmp_path)] == pytest.approx([1e-5, 0.025])
    assert all("ema_top1" in line for line in metrics_of(tmp_path))


def test_the_last_line_gives_top1_of_the_last_and_of_the_best_epoch(tmp_path):
    epochs = [{"epoch": at, "loss": 1.5, "top1": top1} for at, top1 in enumerate([40.0, 61.5, 55])]
    line = result_line(TrainResult(tmp_path, tuple(epochs), epochs[1]))
    assert line == (
        f"{tmp_path}: last epoch loss 1.5000, top-1 55.00%; best is epoch 2 with top-1 61.50% "
        "(what papers report)"
    )
    unscored = [epoch | {"top1": None} for epoch in epochs]
    line = result_line(TrainResult(tmp_path, tuple(unscored), unscored[2]))
    assert line == f"{tmp_path}: last epoch loss 1.5000; best is epoch 3"


def test_the_last_line_never_claims_weights_that_are_lost(tmp_path):
    epoch = {"epoch": 0, "loss": 1.5, "top1": 40.0}
    line = result_line(TrainResult(tmp_path, (epoch,), epoch, has_best=False))
    assert line.endswith("(what papers report), whose weights are lost: there is no best.pt")


# ---- What holds no run

JOBS_WITH_A_FOLDER = {
    "train": [*TRAIN, *SHORT],
    "train-teacher": ["train-teacher", "--dataset", "digits", "--model", "cifar:resnet8", *SHORT],
    "demo": ["demo"],
    "reproduce": ["reproduce", "digits", "--dataset", "digits"],
}


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["to run", "to plan"])
@pytest.mark.parametrize("inside", ["", "runs/s0"], ids=["itself", "inside"])
@pytest.mark.parametrize("words", JOBS_WITH_A_FOLDER.values(), ids=JOBS_WITH_A_FOLDER)
def test_a_store_is_the_folder_of_nothing_else(capsys, raw, words, inside, dry):
    before = sorted(path for path in raw.rglob("*"))
    line = error_of(capsys, *words, *dry, "--out", raw / inside)
    assert "which holds its arrays and nothing else: name another --out" in line
    assert sorted(path for path in raw.rglob("*")) == before


@pytest.mark.parametrize("words", list(JOBS_WITH_A_FOLDER.values())[:2], ids=["train", "teacher"])
def test_a_plan_says_what_the_run_would(tmp_path, capsys, words):
    (tmp_path / "notes.txt").touch()
    assert "holds notes.txt, but no run" in error_of(capsys, *words, "--dry-run", "--out", tmp_path)
    done(*words, "--out", tmp_path / "run")
    capsys.readouterr()
    assert run(*words, "--lr", 0.5, "--dry-run", "--out", tmp_path / "run") == 1
    assert "lr is 0.05 there, 0.5 here" in capsys.readouterr().err
