"""Reproducing recipes, tiny and on digits: the table tells what the runs and stores hold."""

from __future__ import annotations

import csv
import io
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
from logitbank.jobs.demo.stages import Stage
from logitbank.jobs.report.results import StudentRun
from logitbank.jobs.report.themes import LIGHT
from logitbank.jobs.reproduce.plan import Plan, Planner, Request
from logitbank.jobs.reproduce.plot import draw_rows
from logitbank.jobs.reproduce.recipe import Recipe, TeacherTraining
from logitbank.jobs.reproduce.seconds import SECONDS, StageSeconds
from logitbank.jobs.reproduce.table import (
    Cost,
    Results,
    Row,
    comparison_lines,
    cost_lines,
    csv_text,
    shown_lines,
)
from logitbank.pipeline.devices import torch_threads
from logitbank.stores.errors import LogitbankError, UsageError
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

    def test_the_plot_holds_every_figure_of_the_table(self):
        def student(seed: int, best: float, last: float) -> StudentRun:
            return StudentRun("", seed, best, last, 1, "")

        rows = (
            Row("a/kd", recipe(published=73.0), "none", (student(0, 70, 69), student(1, 71, 68))),
            Row("a/kd", recipe(), "sort", (student(0, 72, 67),)),
            Row("a/b/dkd", recipe(), "sort", (student(0, 60, 59),)),
        )
        figure = draw_rows(rows, LIGHT)
        (axes,) = figure.axes
        drawn = [value for line in axes.lines for value in line.get_xdata()]
        assert sorted(drawn) == [59, 60, 67, 68, 69, 70, 71, 72, 73]
        means = [lines.get_segments()[0][0][0] for lines in axes.collections]
        assert means == [68.5, 67, 59]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["kd", "b/dkd"]
        assert axes.get_title(loc="left") == "a"
        told = [text.get_text() for text in figure.legends[0].get_texts()]
        assert told == ["none", "sort", "best epoch", "mean of last", "published"]

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
        assert "the same command goes on from here" in error
        assert not (tmp_path / "out" / "students").exists()

    def test_another_recipe_reuses_the_stores(self, out, recipes, tmp_path, capsys):
        mine = tmp_path / "out"
        shutil.copytree(out, mine)
        dkd = write(tmp_path / "dkd.yaml", {"loss": "dkd", "corrections": ["none"]})
        flags = [word if word != SEEDS else 1 for word in FLAGS]
        assert run("reproduce", dkd, *flags, "--out", mine) == 0
        assert "is complete: every chunk was checked, nothing is lacking" in capsys.readouterr().out
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
            (["{kd}", "--teacher", "cifar:resnet20@a.pt"], "is the teacher of no recipe here"),
            (["{kd}", "{wrong}"], "unknown key of a recipe 'epoch': did you mean 'epochs'"),
            (["{kd}", "{other}"], "are both called kd: rename one of them"),
            (["{kd}", "--out", "{kd}"], "is a file: --out names a folder"),
            (["{vision}"], "resnet188"),
            (["digits/kdd"], "unknown recipe 'digits/kdd': did you mean 'digits/kd'?"),
            (["{kd}", "--views", "500"], "500 views are more than cifar-weak"),
            pytest.param(
                ["{kd}", "--amp"],
                "--amp needs a CUDA device, this machine has cpu",
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
        assert "--eval-dataset names another dataset's" in error

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


def recipe(**changes: object) -> Recipe:
    settings = TINY | {"loss": "dkd", "milestones": (20,)} | changes
    return Recipe(**{**settings, "teacher_training": changes.get("teacher_training")})


def planned(*recipes: Recipe, samples: int = 1000, **request: object) -> Plan:
    settings = {"dataset": "cifar100:data", "out": Path("out"), "seeds": 1}
    asked = Request(**settings | {"teachers": ("cifar:resnet8@t.pt",)} | request)
    return Planner(asked, samples).plan({f"r{i}": one for i, one in enumerate(recipes)})


def flag(stage: Stage, name: str) -> str:
    return stage.words[stage.words.index(name) + 1]


class TestPlan:
    def test_a_given_teacher_is_cached_not_trained(self):
        plan = planned(recipe(corrections=("none",)))
        assert [stage.words[0] for stage in plan.stages] == ["cache", "train"]
        assert flag(plan.stages[0], "--teacher") == "cifar:resnet8@t.pt"
        assert plan.cached_rows == 10 * 1000

    def test_recipes_of_one_teacher_share_its_stores(self):
        strong = {"loss": "mlkd", "strong": "cifar-strong"}
        plan = planned(recipe(), recipe(loss="kd"), recipe(**strong))
        assert [stage.words[0] for stage in plan.stages].count("cache") == 2
        assert [stage.words[0] for stage in plan.stages].count("correct") == 4
        assert [stage.words[0] for stage in plan.stages].count("train") == 9
        assert plan.cached_rows == 2 * 10 * 1000

    @pytest.mark.parametrize(
        ("loss", "corrections", "made"),
        [
            ("sld-kd", ("none", "sort", "swap"), ["swap", "sort"]),
            ("sld-kd", ("none",), ["swap"]),
            ("kd", ("none", "sort", "swap"), ["none", "sort", "swap"]),
        ],
    )
    def test_raw_logits_of_a_method_that_swaps_are_its_swap_and_one_row(
        self, loss, corrections, made
    ):
        plan = planned(recipe(loss=loss, corrections=corrections))
        assert [student.correction for student in plan.students.values()] == made

    def test_other_views_are_another_store(self):
        plan = planned(recipe(), recipe(views=12))
        assert len({stage.output for stage in plan.stages if stage.words[0] == "cache"}) == 2
        plan = planned(recipe(), recipe(views=12), views=3)
        assert plan.cached_rows == 3 * 1000

    def test_scale_shrinks_all_that_counts_epochs_and_the_data(self):
        plan = planned(recipe(epochs=240, milestones=(150, 180, 210)), scale=0.1, samples=50_000)
        student = plan.stages[-1]
        assert (flag(student, "--epochs"), flag(student, "--limit")) == ("24", "5000")
        at = student.words.index("--milestones")
        assert student.words[at + 1 : at + 4] == ("15", "18", "21")
        assert "warmup=2" in student.words
        assert plan.cached_rows == 10 * 5_000
        assert plan.students[student.output].soft_labels == 24 * 5_000

    def test_no_more_views_than_epochs_and_no_fewer_samples_than_a_batch(self):
        plan = planned(recipe(), scale=0.001)
        assert plan.cached_rows == 1 * 32

    def test_a_recipe_may_name_its_weights(self):
        plan = planned(recipe(teacher="torchvision:resnet34@IMAGENET1K_V1"), teachers=())
        assert flag(plan.stages[0], "--teacher") == "torchvision:resnet34@IMAGENET1K_V1"

    def test_digits_need_no_teacher_all_else_does(self):
        plan = planned(recipe(), dataset="digits", teachers=())
        assert plan.stages[0].words[0] == "train-teacher"
        training = TeacherTraining(2, 16, 0.1, limit=40)
        plan = planned(recipe(teacher_training=training), teachers=())
        assert flag(plan.stages[0], "--limit") == "40"
        with pytest.raises(UsageError, match="r0 needs its teacher: --teacher cifar:resnet8@"):
            planned(recipe(), teachers=())

    def test_a_teacher_apart_learns_from_images_that_no_student_sees(self):
        training = TeacherTraining(2, 16, 0.1, limit=300, apart=True)
        for scale, kept, learned in ((1.0, 300, 700), (0.5, 150, 350)):
            plan = planned(recipe(teacher_training=training), teachers=(), scale=scale)
            teacher, cached, student = plan.stages[0], plan.stages[1], plan.stages[-1]
            assert (flag(teacher, "--skip"), flag(teacher, "--limit")) == (
                str(1000 - kept),
                str(kept),
            )
            assert flag(cached, "--limit") == flag(student, "--limit") == str(learned)
        given = planned(recipe(teacher_training=training))
        assert flag(given.stages[0], "--limit") == "700"
        with pytest.raises(UsageError, match="300 images .* there are 300 in all: none is left"):
            planned(recipe(teacher_training=training), samples=300)

    def test_labels_alone_are_learned_on_the_views_of_the_others(self):
        plan = planned(recipe(), recipe(loss="ce", corrections=("none",)))
        student = plan.stages[-1]
        assert flag(student, "--loss") == "ce"
        assert flag(student, "--soft-labels") == flag(plan.stages[0], "--out")
        assert plan.students[student.output].soft_labels == 0
        assert plan.cached_rows == 10 * 1000

    def test_two_teachers_of_one_network_are_refused(self):
        """One would teach the students of both, from one store."""
        short, apart = TeacherTraining(2, 16, 0.1), TeacherTraining(9, 16, 0.1, 300, apart=True)
        for one, other in (
            (recipe(teacher_training=short), recipe(teacher_training=apart)),
            (recipe(teacher="cifar:resnet8@a.pt"), recipe(teacher="cifar:resnet8@b.pt")),
        ):
            planned(one, one, teachers=())
            with pytest.raises(UsageError, match="r0 and r1 have two teachers of cifar:resnet8"):
                planned(one, other, teachers=())

    def test_one_checkpoint_a_network(self):
        with pytest.raises(UsageError, match="names cifar:resnet8 twice"):
            planned(recipe(), teachers=("cifar:resnet8@a.pt", "cifar:resnet8@b.pt"))


class TestSeconds:
    def stage(self, tmp_path: Path) -> Stage:
        return Stage("a stage", ("train",), tmp_path / "students" / "a")

    def test_what_was_broken_off_counts_and_what_is_done_is_not_timed_again(self, tmp_path):
        stage = self.stage(tmp_path)

        def breaks_off() -> int:
            raise KeyboardInterrupt

        def entry() -> list:
            return json.loads((tmp_path / SECONDS).read_text())["students/a"]

        with pytest.raises(KeyboardInterrupt):
            StageSeconds(tmp_path).run(stage, breaks_off)
        (tmp_path / SECONDS).write_text(json.dumps({"students/a": [100.0, entry()[1]]}))
        assert StageSeconds(tmp_path).run(stage, lambda: 75) == 75
        assert entry()[0] >= 100
        assert entry()[1] is False
        assert StageSeconds(tmp_path).run(stage, lambda: 0) == 0
        assert entry()[1] is True
        done = entry()
        StageSeconds(tmp_path).run(stage, lambda: 0)
        assert entry() == done
        assert StageSeconds(tmp_path).total((stage,)) == done[0]

    @pytest.mark.parametrize("text", ["{", '{"a": 1}', "[]"])
    def test_a_damaged_file_is_named(self, tmp_path, text):
        (tmp_path / SECONDS).write_text(text)
        with pytest.raises(LogitbankError, match="seconds.json is damaged: it holds the seconds"):
            StageSeconds(tmp_path)


def rows_of(top1: dict[tuple[str, str], dict[int, float]]) -> list[Row]:
    """Rows by recipe and correction, from the last epochs' top-1 by seed."""
    return [
        Row(
            name,
            recipe(),
            correction,
            tuple(StudentRun("", seed, 99.0, last, 1, "") for seed, last in found.items()),
        )
        for (name, correction), found in top1.items()
    ]


class TestResults:
    COST = Cost(1_000, 400, {"to cache": 3600.0, "to train students": 5400.0})

    def results(self, dataset: str = "cifar100:data", scale: float = 1.0) -> Results:
        runs = (StudentRun("kd, none", 0, 71.5, 71.25, 240, "metrics.jsonl"),)
        row = Row("kd", recipe(loss="kd", published=73.33), "none", runs)
        return Results((row,), self.COST, dataset, scale)

    def test_one_seed_has_no_deviation(self):
        (row,) = csv.DictReader(io.StringIO(csv_text(self.results()).split("#")[0]))
        assert (row["last_mean"], row["last_std"], row["best_mean"]) == ("71.2500", "", "71.5000")
        assert any(
            line.split() == ["kd", "none", "1", "71.25", "71.50", "73.33"]
            for line in shown_lines(self.results())
        )

    def test_corrections_are_compared_by_runs_of_one_recipe_and_seed(self):
        """Of the runs that lack a partner nothing is said."""
        top1 = {
            ("kd", "none"): {0: 70.0, 1: 71.0},
            ("kd", "sort"): {0: 71.0, 1: 71.5},
            ("dkd", "none"): {0: 60.0, 1: 61.0},
            ("dkd", "sort"): {0: 62.0, 1: 61.5},
            ("sld", "sort"): {0: 90.0, 1: 90.0},
            ("ce", "none"): {0: 10.0, 1: 10.0},
            ("kd", "swap"): {0: 50.0},
        }
        rows = rows_of(top1)
        pairs = [1.0, 0.5, 2.0, 0.5]
        margin = 3.182 * statistics.stdev(pairs) / 2  # t of 3 degrees of freedom
        assert comparison_lines(rows) == [
            f"sort less none: +1.00 ± {margin:.2f} points of the last epoch "
            "(95% interval over 4 pairs of one recipe and seed), within the noise"
        ]

    def test_equal_differences_have_no_spread_to_judge_by(self):
        top1 = {("kd", "my-own"): {0: 70.0, 1: 71.0}, ("kd", "sort"): {0: 69.0, 1: 70.0}}
        assert comparison_lines(rows_of(top1)) == [
            "sort less my-own: −1.00 ± 0.00 points of the last epoch "
            "(95% interval over 2 pairs of one recipe and seed)"
        ]

    def test_the_cost(self):
        assert cost_lines(self.COST) == [
            "teacher forward passes spent: 1,000",
            "teacher forward passes saved: −600 (with the teacher in the loop these students take "
            "400)",
            "hours: 2.500 (1.000 to cache, 1.500 to train students)",
        ]

    @pytest.mark.parametrize(
        ("dataset", "scale", "compares"),
        [
            ("cifar100:a", 1.0, ""),
            ("cifar100:a", 0.5, " This is cifar100 at scale 0.5: they can't be compared."),
            ("digits", 1.0, " This is digits at scale 1: they can't be compared."),
            ("hdf5:a", 1.0, " Whether hdf5:a can be compared is for you to say."),
        ],
    )
    def test_what_published_figures_are_held_against(self, dataset, scale, compares):
        told = "Published figures are of cifar100, of the best epoch."
        assert self.results(dataset, scale).caveat == told + compares

    def test_a_figure_stands_beside_the_logits_that_the_method_has(self):
        """SLD's are swapped."""
        sld = recipe(loss="sld", strong="cifar-strong", published=77.7)
        for one, corrections in ((sld, ("swap",)), (recipe(published=76.3), ("none",))):
            shown = [c for c in ("none", "sort", "swap") if Row("a", one, c, ()).published]
            assert tuple(shown) == corrections
