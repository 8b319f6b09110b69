"""The demo, small: its report tells what its runs and stores hold, and nothing is done twice."""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
from pathlib import Path

import pytest

from logitbank.jobs.cli import run_job
from logitbank.jobs.demo.stages import METHODS, DemoSettings, Stage, StageTimes, demo_stages
from logitbank.stores.errors import LogitbankError
from logitbank.stores.reader import Store
from tests.jobs.command import run
from tests.jobs.report.report_pages import Page

SEEDS, SAMPLES, VIEWS, EPOCHS = 2, 96, 2, 2
FLAGS = {
    "--seeds": SEEDS,
    "--limit": SAMPLES,
    "--views": VIEWS,
    "--epochs": EPOCHS,
    "--teacher": "cifar:resnet8",
    "--teacher-limit": 64,
    "--teacher-epochs": 1,
    "--rounds": 2,
}
WORDS = [word for pair in FLAGS.items() for word in pair]


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "runs"
    assert run("demo", "--out", out, *WORDS) == 0
    return out


@pytest.fixture(scope="module")
def page(out) -> Page:
    return Page.of((out / "report.html").read_text())


@pytest.fixture(scope="module")
def again(out, page) -> dict[Path, bytes]:
    """What lay in the folder before the same demo ran in it a second time."""
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert run("demo", "--out", out, *WORDS) == 0
    return before


def metrics(out: Path, method: str, seed: int) -> list[dict]:
    path = out / "students" / f"{method}-{seed}" / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(page: Page, caption: str) -> dict[str, list[str]]:
    rows = next(rows for name, rows in page.tables.items() if name.startswith(caption))
    return {row[0]: row[1:] for row in rows[1:]}


def written(values: list[float]) -> str:
    return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"


class TestReport:
    def test_accuracies_are_those_of_the_runs(self, out, page):
        rows = table(page, "Top-1 on the test split")
        for method in METHODS:
            tops = [
                [epoch["top1"] for epoch in metrics(out, method.name, seed)]
                for seed in range(SEEDS)
            ]
            assert all(len(epochs) == EPOCHS for epochs in tops)
            last, best = [epochs[-1] for epochs in tops], [max(epochs) for epochs in tops]
            assert rows[method.title] == [str(SEEDS), written(last), written(best)]

    def test_the_teacher_is_as_its_manifest_says(self, out, page):
        measured = Store.open(out / "raw.zarr").manifest.measured
        taught = table(page, "Top-1 on the test split")["(the teacher itself)"]
        assert taught == ["1", f"{measured.clean_top1:.2f}", ""]
        wrong, rows = sum(measured.label_ranks[1:]), sum(measured.label_ranks)
        assert rows == SAMPLES * VIEWS
        assert f"in {wrong:,} of {rows:,} cached rows" in page.text

    def test_bytes_are_those_on_disk(self, out, page):
        sizes = [
            sum(file.stat().st_size for file in (out / f"{name}.zarr").rglob("*") if file.is_file())
            for name in ("raw", "sort", "swap")
        ]
        assert table(page, "Bytes on disk")["total"] == [f"{size:,}" for size in sizes]

    def test_passes_are_counted(self, page):
        rows = table(page, "Teacher forward passes")
        students = SEEDS * 3
        spent, online = VIEWS * SAMPLES, students * EPOCHS * SAMPLES
        assert rows["spent on the cache"][1] == f"{spent:,}"
        assert rows["saved"][1] == f"{online - spent:,}"
        assert rows["pays off, in passes, from"][1] == "student 2"

    def test_throughput_is_what_was_measured_last(self, out, page):
        ways = json.loads((out / "throughput.json").read_text())["ways"]
        assert list(ways) == [
            "no teacher",
            "cached teacher",
            "teacher in the loop",
            "no teacher, again",
        ]
        rows = table(page, "Images per second over 2 rounds")
        for way, rates in ways.items():
            assert len(rates) == 2
            assert rows[way][0] == f"{statistics.median(rates):,.0f}"

    def test_it_says_that_digits_prove_the_plumbing_alone(self, page):
        assert "prove the plumbing, not the papers" in page.text

    def test_every_command_stands_in_it(self, out, page):
        settings = DemoSettings(out=out, seeds=SEEDS)
        for store in settings.stores.values():
            assert f"--out {store}" in page.text
        assert page.text.count("logitbank train --dataset digits") == SEEDS * len(METHODS)

    def test_all_students_see_the_same_views(self, out):
        for method in METHODS:
            views = [epoch["view"] for epoch in metrics(out, method.name, 1)]
            assert views == [epoch["view"] for epoch in metrics(out, "raw", 1)]


class TestAgain:
    def test_what_is_complete_is_kept(self, again):
        for path, content in again.items():
            if path.suffix == ".pt" or ".zarr" in str(path) or path.name == "throughput.json":
                assert path.read_bytes() == content, path

    def test_the_report_is_the_same(self, out, again):
        assert (out / "report.html").read_bytes() == again[out / "report.html"]

    def test_what_is_lacking_is_made_and_the_accuracies_are_printed(self, out, again, capsys):
        shutil.rmtree(out / "swap.zarr")
        shutil.rmtree(out / "students" / "sort-1")
        assert run("demo", "--out", out, *WORDS) == 0
        kept = json.loads(again[out / "swap.zarr" / "zarr.json"])["attributes"]["digest"]
        assert Store.open(out / "swap.zarr").manifest.digest == kept
        assert len(metrics(out, "sort", 1)) == EPOCHS
        printed = capsys.readouterr().out
        last = [metrics(out, "sort", seed)[-1]["top1"] for seed in range(SEEDS)]
        line = next(line for line in printed.splitlines() if line.startswith("  KD on sort"))
        assert written(last) in line
        assert printed.rstrip().endswith(f"report: {out / 'report.html'}")


class TestPlan:
    def test_nothing_is_run_when_asked_for_the_plan(self, tmp_path, capsys):
        assert run("demo", "--out", tmp_path / "demo", "--seeds", 3, "--dry-run") == 0
        commands = capsys.readouterr().out.splitlines()
        assert not (tmp_path / "demo").exists()
        assert [line.split()[1] for line in commands] == [
            "train-teacher",
            "cache",
            *["correct"] * 2,
            *["train"] * 12,
        ]

    def test_every_command_can_be_typed_by_hand(self, out):
        flags = {name[2:].replace("-", "_"): value for name, value in FLAGS.items()}
        for stage in demo_stages(DemoSettings(out=out, **flags)):
            assert not run_job(stage.argv[0], [*stage.argv[1:], "--dry-run"])

    def test_a_file_in_its_place_is_named(self, tmp_path, capsys):
        (tmp_path / "demo").touch()
        assert run("demo", "--out", tmp_path / "demo") == 2
        assert "is a file: --out must name a folder" in capsys.readouterr().err

    def test_another_configuration_in_the_folder_is_refused(self, out, again, capsys):
        assert run("demo", "--out", out, *WORDS, "--views", 1) == 1
        assert "views: the store has 2, this job wants 1" in capsys.readouterr().err


class TestStageTimes:
    def test_a_stage_that_was_broken_off_has_no_time(self, tmp_path):
        stage = Stage("cache", ("cache",), tmp_path / "raw.zarr")
        with contextlib.suppress(KeyboardInterrupt), StageTimes(tmp_path).of(stage):
            stage.output.mkdir()
            raise KeyboardInterrupt
        times = StageTimes(tmp_path)
        with times.of(stage):
            pass
        assert times.seconds == {}

    def test_a_whole_stage_keeps_its_time(self, tmp_path):
        stage = Stage("cache", ("cache",), tmp_path / "raw.zarr")
        times = StageTimes(tmp_path)
        with times.of(stage):
            stage.output.mkdir()
        with StageTimes(tmp_path).of(stage):
            pass
        assert StageTimes(tmp_path).seconds == times.seconds
        assert list(times.seconds) == ["cache"]

    def test_a_damaged_file_is_named(self, tmp_path):
        (tmp_path / "stages.json").write_text("{")
        with pytest.raises(LogitbankError, match=r"stages.json is damaged"):
            StageTimes(tmp_path)
