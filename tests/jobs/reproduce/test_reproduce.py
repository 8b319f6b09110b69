"""Reproducing recipes, tiny and on digits: the table tells what the runs and stores hold."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import statistics
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml

from logitbank.jobs.cli import run_job
from logitbank.pipeline.devices import torch_threads
from logitbank.stores.reader import Store
from tests.jobs.command import run, start

SEEDS, SAMPLES, EPOCHS = 2, 72, 2
SCALE = 0.05
FLAGS = ["--dataset", "digits", "--seeds", SEEDS, "--scale", SCALE, "--device", "cpu"]
TINY = {
    "dataset": "cifar100",
    "teacher": "cifar:resnet8",
    "teacher_training": {"epochs": 20, "batch_size": 16, "lr": 0.05},
    "student": "cifar:resnet8",
    "weak": "cifar-weak:flip=no",
    "views": 10,
    "epochs": 40,
    "batch_size": 32,
    "lr": 0.1,
    "milestones": [20],
    "weight_decay": 5e-4,
}
KD = {"loss": "kd", "corrections": ["none", "sort"], "published": 73.33}
SLD = {"loss": "sld", "corrections": ["swap"], "strong": "cifar-strong:flip=no"}


def write(path: Path, changes: dict) -> Path:
    path.write_text(yaml.safe_dump(TINY | changes))
    return path


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Training repeats bit for bit at one number of threads, whatever tests ran before."""
    with torch_threads(1), pytest.MonkeyPatch.context() as patched:
        patched.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def recipes(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recipes")
    return [write(folder / "kd.yaml", KD), write(folder / "sld.yaml", SLD)]


@pytest.fixture(scope="module")
def out(tmp_path_factory, recipes) -> Path:
    out = tmp_path_factory.mktemp("reproduce") / "out"
    assert run("reproduce", *recipes, *FLAGS, "--out", out) == 0
    return out


def csv_rows(out: Path) -> list[dict[str, str]]:
    lines = (out / "table.csv").read_text().splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


def without_hours(out: Path) -> list[str]:
    both = [
        *(out / "table.md").read_text().splitlines(),
        *(out / "table.csv").read_text().split("\n"),
    ]
    return [line for line in both if "hours: " not in line]


def top1(out: Path, name: str) -> list[list[float]]:
    runs = [out / "students" / f"{name}-{seed}" / "metrics.jsonl" for seed in range(SEEDS)]
    return [[json.loads(line)["top1"] for line in run.read_text().splitlines()] for run in runs]


class TestTable:
    def test_accuracies_are_those_of_the_runs(self, out):
        rows = {f"{row['recipe']}/{row['correction']}": row for row in csv_rows(out)}
        assert list(rows) == ["kd/none", "kd/sort", "sld/swap"]
        for name, row in rows.items():
            tops = top1(out, name)
            assert [len(epochs) for epochs in tops] == [EPOCHS] * SEEDS
            last, best = [epochs[-1] for epochs in tops], [max(epochs) for epochs in tops]
            for key, values in (("last", last), ("best", best)):
                assert float(row[f"{key}_mean"]) == pytest.approx(
                    statistics.fmean(values), abs=1e-4
                )
                assert float(row[f"{key}_std"]) == pytest.approx(statistics.stdev(values), abs=1e-4)
            assert row["seeds"] == str(SEEDS)
            text = f"| {statistics.fmean(last):.2f} ± {statistics.stdev(last):.2f} |"
            assert text in (out / "table.md").read_text()

    def test_a_published_figure_stands_beside_the_method_as_published_alone(self, out):
        assert [row["published_best"] for row in csv_rows(out)] == ["73.3300", "", ""]
        text = (out / "table.md").read_text()
        assert "Published figures are of cifar100, of the best epoch." in text
        assert "This is digits at scale 0.05: they can't be compared." in text

    def test_passes_spent_and_saved(self, out):
        spent = sum(
            store.manifest.views * store.manifest.dataset.samples
            for store in map(Store.open, (out / "stores").iterdir())
            if store.manifest.kind == "raw"
        )
        assert spent == 2 * 2 * SAMPLES
        online = (2 * SEEDS + 2 * SEEDS) * EPOCHS * SAMPLES
        lines = (out / "table.md").read_text().splitlines()[-3:]
        assert lines[0] == f"- teacher forward passes spent: {spent:,}"
        assert lines[1].startswith(f"- teacher forward passes saved: {online - spent:,} (")
        assert lines[2].startswith("- hours: 0.0")

    def test_it_is_drawn_for_light_pages_and_for_dark_ones(self, out):
        for theme in ("light", "dark"):
            assert (out / f"table-{theme}.png").read_bytes().startswith(b"\x89PNG")

    def test_corrections_take_no_room(self, out):
        kinds = {path: Store.open(path).manifest.kind for path in (out / "stores").iterdir()}
        assert sorted(kinds.values()) == ["raw", "raw", "virtual", "virtual", "virtual"]
        corrected = [path for path, kind in kinds.items() if kind == "virtual"]
        assert all([file.name for file in path.iterdir()] == ["zarr.json"] for path in corrected)


class TestStudents:
    def test_they_have_the_settings_of_the_recipe_scaled(self, out):
        config = yaml.safe_load((out / "students" / "sld" / "swap-1" / "config.yaml").read_text())
        wanted = {"loss": "sld", "epochs": EPOCHS, "limit": SAMPLES, "milestones": [1], "seed": 1}
        assert wanted.items() <= config.items()
        assert (config["lr"], config["batch_size"], config["weight_decay"]) == (0.1, 32, 5e-4)
        settings = config["loss_settings"]
        assert settings["gamma"] == 1
        # The store is swapped already.
        assert settings["swap_teacher"] is False
        assert config["teacher_correction"] == "swap"
        assert settings["temperatures"] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


class TestAgain:
    def test_nothing_is_done_twice(self, out, recipes):
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        assert run("reproduce", *recipes, *FLAGS, "--out", out) == 0
        for path, content in before.items():
            if path.name != "reproduce.log":
                assert path.read_bytes() == content, path

    def test_killed_and_run_again_it_gives_the_same_table(self, out, recipes, tmp_path):
        process = start("reproduce", *recipes, *FLAGS, "--out", tmp_path / "out")
        student = tmp_path / "out" / "students" / "kd" / "sort-0" / "metrics.jsonl"
        deadline = time.monotonic() + 300
        while not student.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "out" / "table-dark.png").exists()
        assert run("reproduce", *recipes, *FLAGS, "--out", tmp_path / "out") == 0
        assert without_hours(tmp_path / "out") == without_hours(out)

    def test_asked_to_stop_it_says_so(self, out, recipes, tmp_path, monkeypatch, capsys):
        def stopped_in_cache(name: str, arguments: list[str]) -> int:
            return 75 if name == "cache" else run_job(name, arguments)

        teacher = f"cifar:resnet8@{out / 'teachers' / 'cifar-resnet8' / 'last.pt'}"
        with monkeypatch.context() as patched:
            patched.setattr("logitbank.jobs.cli.run_job", stopped_in_cache)
            words = [recipes[0], *FLAGS, "--teacher", teacher, "--out", tmp_path / "out"]
            assert run("reproduce", *words) == 75
        error = capsys.readouterr().err
        assert error.startswith("logitbank reproduce: stopped by a signal during: cache 2 views")
        assert "run the same command again to go on from here" in error
        assert not (tmp_path / "out" / "students").exists()

    def test_another_recipe_reuses_the_stores(self, out, recipes, tmp_path, capsys):
        mine = tmp_path / "out"
        shutil.copytree(out, mine)
        dkd = write(tmp_path / "dkd.yaml", {"loss": "dkd", "corrections": ["none"]})
        flags = [word if word != SEEDS else 1 for word in FLAGS]
        assert run("reproduce", dkd, *flags, "--out", mine) == 0
        assert "is complete: every chunk was checked, nothing is missing" in capsys.readouterr().out
        assert [row["seeds"] for row in csv_rows(mine)] == ["1"]

    def test_a_store_of_another_teacher_is_not_reused(self, out, recipes, tmp_path, capsys):
        mine = tmp_path / "out"
        shutil.copytree(out, mine)
        weights = out / "teachers" / "cifar-resnet8" / "last.pt"
        shutil.rmtree(mine / "teachers")
        other = out / "students" / "kd" / "none-0" / "last.pt"
        assert weights.read_bytes() != other.read_bytes()
        words = [recipes[0], *FLAGS, "--teacher", f"cifar:resnet8@{other}", "--out", mine]
        assert run("reproduce", *words) == 1
        assert "state_sha256" in capsys.readouterr().err


class TestBadInput:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["kdd"], "unknown recipe 'kdd'"),
            (["{kd}", "--scale", "0"], "'0' is not a number above 0, at most 1"),
            (["{kd}", "--scale", "2"], "'2' is not a number above 0, at most 1"),
            (["{kd}", "--seeds", "0"], "'0' is not a whole number of at least 1"),
            (["{kd}", "--device", "gpu"], "device 'gpu'"),
            (
                ["{kd}", "--teacher", "cifar:resnet20@a.pt"],
                "is not the teacher of any of these recipes",
            ),
            (["{kd}", "{wrong}"], "unknown key of a recipe 'epoch': did you mean 'epochs'"),
            (["{kd}", "{other}"], "are both called kd: rename one of them"),
            (["{kd}", "--out", "{kd}"], "is a file: --out must name a folder"),
            (["{vision}"], "resnet188"),
            (["digits/kdd"], "unknown recipe 'digits/kdd': did you mean 'digits/kd'?"),
            (["{kd}", "--views", "500"], "500 views are more than cifar-weak"),
            pytest.param(
                ["{kd}", "--amp"],
                "--amp needs a CUDA device, not cpu: leave --amp out",
                marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA"),
            ),
        ],
    )
    def test_is_one_clear_line_and_no_work(self, recipes, tmp_path, capsys, words, message):
        (tmp_path / "other").mkdir()
        files = {
            "kd": recipes[0],
            "wrong": write(tmp_path / "wrong.yaml", KD | {"epoch": 1}),
            "other": write(tmp_path / "other" / "kd.yaml", KD),
            "vision": write(tmp_path / "vision.yaml", KD | {"student": "torchvision:resnet188"}),
        }
        words = [word.format(**files) for word in words]
        out = [] if "--out" in words else ["--out", tmp_path / "out"]
        assert run("reproduce", *words, *FLAGS[:2], *out) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
        assert not (tmp_path / "out").exists()

    def test_a_split_to_evaluate_on_is_needed(self, recipes, tmp_path, capsys):
        with h5py.File(tmp_path / "one.h5", "w") as file:
            file["images"] = np.zeros((4, 32, 32, 3), np.uint8)
            file["labels"] = np.arange(4)
        words = [recipes[0], "--dataset", f"hdf5:{tmp_path / 'one.h5'}", "--out", tmp_path / "out"]
        assert run("reproduce", *words) == 2
        error = capsys.readouterr().err
        assert "one.h5 has no test split" in error
        assert "name a dataset that has one by --eval-dataset" in error

    def test_classes_must_be_numbered_as_in_the_split_evaluated_on(self, recipes, tmp_path, capsys):
        for split, names in (("train", ["cat", "dog"]), ("test", ["dog", "cat"])):
            with h5py.File(tmp_path / f"{split}.h5", "w") as file:
                file["images"] = np.zeros((4, 32, 32, 3), np.uint8)
                file["labels"] = np.arange(4) % 2
                file.attrs["classes"] = names
        words = [recipes[0], "--dataset", f"hdf5:{tmp_path}", "--out", tmp_path / "out"]
        assert run("reproduce", *words) == 2
        assert "class 0 is 'dog' in hdf5 test, but 'cat' in hdf5 train" in capsys.readouterr().err

    def test_a_dry_run_prints_the_commands_and_writes_nothing(self, recipes, tmp_path, capsys):
        words = [recipes[1], *FLAGS, "--out", tmp_path / "out", "--dry-run"]
        assert run("reproduce", *words) == 0
        lines = capsys.readouterr().out.splitlines()
        jobs = [line.split()[1] for line in lines]
        assert jobs == ["train-teacher", "cache", "cache", "correct", "correct", "train", "train"]
        assert not (tmp_path / "out").exists()
