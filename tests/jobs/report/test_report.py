"""`logitbank report`: the page tells what any stores and runs hold, and refuses what is neither."""

from __future__ import annotations

import json
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from logitbank.jobs.report.runs import name_methods
from logitbank.pipeline.student import TrainConfig
from logitbank.stores.reader import Store
from tests.jobs.command import done, run
from tests.jobs.report.report_pages import Page

EPOCHS, SEEDS = 2, 2


@pytest.fixture(scope="module")
def stores(tmp_path_factory, raw) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("report") / "stores"
    folder.mkdir()
    found = {"raw": raw} | {name: folder / f"{name}.zarr" for name in ("swap", "virtual")}
    done("correct", raw, "--correction", "swap", "--out", found["swap"])
    done("correct", raw, "--correction", "sort", "--virtual", "--out", found["virtual"])
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory, stores) -> list[Path]:
    """Two seeds of `kd` on the swapped store, one of cross-entropy alone."""
    folder = tmp_path_factory.mktemp("report") / "runs"
    usual = ["--dataset", "digits", "--student", "cifar:resnet8", "--epochs", EPOCHS]
    usual += ["--limit", 160]
    found = []
    for seed in range(SEEDS):
        found.append(folder / f"kd-{seed}")
        taught = ["--soft-labels", stores["swap"], "--seed", seed, "--out", found[-1]]
        done("train", *usual, *taught)
    found.append(folder / "ce")
    done("train", *usual, "--loss", "ce", "--out", found[-1])
    return found


@pytest.fixture(scope="module")
def out(tmp_path_factory, stores, runs) -> Path:
    out = tmp_path_factory.mktemp("report") / "page"
    words = ["report", *stores.values(), "--runs", *runs, "--dataset", "digits"]
    done(*words, "--out", out)
    return out


@pytest.fixture(scope="module")
def page(out) -> Page:
    return Page.of((out / "report.html").read_text())


def last_top1(run: Path) -> float:
    return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["top1"]


class TestPage:
    def test_it_has_what_there_are_results_for(self, page, out):
        assert page.ids == ["accuracy", "mistakes", "bytes", "passes", "setting"]
        assert [image["src"].split("-")[0] for image in page.images] == [
            "figures/accuracy",
            "figures/mistakes",
            "figures/ranks",
            "figures/passes",
        ]
        assert all((out / link).is_file() for link in page.links)

    def test_accuracies_are_those_of_the_runs(self, page, runs):
        rows = page.tables["Top-1 on the test split, %: mean ± standard deviation over seeds"]
        last = [last_top1(run) for run in runs[:SEEDS]]
        assert rows[1][:2] == ["kd on swap.zarr", str(SEEDS)]
        assert rows[1][2] == f"{statistics.fmean(last):.2f} ± {statistics.stdev(last):.2f}"
        assert rows[2][:3] == ["ce", "1", f"{last_top1(runs[-1]):.2f}"]

    def test_bytes_are_those_on_disk_and_a_virtual_store_has_no_arrays(self, page, stores):
        rows = {row[0]: row[1:] for row in page.tables["Bytes on disk"]}
        for column, path in enumerate(stores.values()):
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            assert rows["total"][column] == f"{size:,}"
        assert rows["logits"][2] == ""

    def test_passes_are_those_that_the_taught_students_saved(self, page):
        caption = next(name for name in page.tables if name.startswith("Teacher forward passes"))
        rows = {row[0]: row[1:] for row in page.tables[caption][1:]}
        assert rows["spent on the cache"][1] == f"{3 * 160:,}"
        assert rows["saved"][1] == f"{SEEDS * EPOCHS * 160 - 3 * 160:,}"

    def test_each_store_is_told_by_its_digest(self, page, stores):
        for path in stores.values():
            assert str(Store.open(path).manifest.digest) in page.text

    def test_the_accuracies_are_printed_and_nothing_is_written_of_a_plan(
        self, stores, runs, tmp_path, capsys
    ):
        words = ["report", stores["raw"], "--runs", *runs, "--out", tmp_path / "page", "--dry-run"]
        done(*words)
        printed = capsys.readouterr().out
        assert "kd on swap.zarr" in printed
        assert printed.endswith(f"report: {tmp_path / 'page' / 'report.html'} would be written\n")
        assert not (tmp_path / "page").exists()

    def test_settings_may_stand_in_a_file(self, stores, tmp_path):
        (tmp_path / "settings.yaml").write_text(f"stores: [{stores['raw']}]\n")
        done("report", "--config", tmp_path / "settings.yaml", "--out", tmp_path / "page")
        page = Page.of((tmp_path / "page" / "report.html").read_text())
        assert page.ids == ["mistakes", "bytes", "setting"]
        assert len(page.images) == 1

    def test_corrected_stores_alone_have_no_mistakes_to_show(self, stores, tmp_path):
        done("report", stores["swap"], stores["virtual"], "--out", tmp_path)
        assert Page.of((tmp_path / "report.html").read_text()).ids == ["bytes", "setting"]

    def test_two_stores_of_one_name_are_told_apart(self, stores, tmp_path):
        shutil.copytree(stores["raw"], tmp_path / "raw.zarr")
        done("report", stores["raw"], tmp_path / "raw.zarr", "--out", tmp_path / "page")
        rows = Page.of((tmp_path / "page" / "report.html").read_text()).tables["Bytes on disk"]
        assert rows[0][1:] == [str(stores["raw"]), str(tmp_path / "raw.zarr")]


class TestRefused:
    @pytest.mark.parametrize(
        ("words", "code", "told"),
        [
            ([], 2, "the following arguments are required: STORE"),
            (["{tmp}/none.zarr"], 1, "there is no store at {tmp}/none.zarr: no such folder"),
            (["{raw}", "{raw}"], 2, "{raw} is named twice"),
            (["{raw}", "--runs", "{tmp}"], 2, "{tmp} is not the folder of a training run"),
            (["{raw}", "--runs", "{run}", "{run}"], 2, "have the same settings and the same seed"),
            (["{raw}", "--dataset", "nope"], 2, "unknown dataset 'nope'"),
            (["{swap}", "--dataset", "digits"], 2, "all of these are corrected: name the raw one"),
            (["{raw}", "--parent", "{raw}"], 2, "0 of the stores are virtual, 1 given"),
            (["{raw}", "--temperature", "0"], 2, "'0' is not above 0"),
        ],
        ids=[
            "none",
            "absent",
            "twice",
            "no run",
            "run twice",
            "dataset",
            "corrected",
            "parent",
            "T",
        ],
    )
    def test_it_is_one_line(self, words, code, told, stores, runs, tmp_path, capsys):
        names = {"raw": stores["raw"], "swap": stores["swap"], "run": runs[0], "tmp": tmp_path}
        words = [word.format(**names) for word in words]
        assert run("report", *words, "--out", tmp_path / "page") == code
        (line,) = capsys.readouterr().err.splitlines()
        assert told.format(**names) in line
        assert not (tmp_path / "page").exists()

    def test_an_incomplete_store(self, stores, tmp_path, capsys):
        shutil.copytree(stores["raw"], tmp_path / "raw.zarr")
        manifest = json.loads((tmp_path / "raw.zarr" / "zarr.json").read_text())
        manifest["attributes"]["status"] = "incomplete"
        (tmp_path / "raw.zarr" / "zarr.json").write_text(json.dumps(manifest))
        assert run("report", tmp_path / "raw.zarr", "--out", tmp_path / "page") == 1
        assert str(tmp_path / "raw.zarr") in capsys.readouterr().err

    def test_an_unfinished_run(self, stores, runs, tmp_path, capsys):
        shutil.copytree(runs[0], tmp_path / "run")
        metrics = tmp_path / "run" / "metrics.jsonl"
        metrics.write_text(metrics.read_text().splitlines()[0] + "\n")
        words = ["report", stores["raw"], "--runs", tmp_path / "run", "--out", tmp_path / "page"]
        assert run(*words) == 1
        assert f"{tmp_path / 'run'} has finished 1 of its 2 epochs: run its command again" in (
            capsys.readouterr().err
        )

    def test_a_page_within_a_store_or_in_the_place_of_a_file(self, stores, tmp_path, capsys):
        assert run("report", stores["raw"], "--out", stores["raw"]) == 2
        assert "is a store, which holds its arrays and nothing else" in capsys.readouterr().err
        assert run("report", stores["raw"], "--out", stores["raw"] / "page") == 2
        assert "lies in the store" in capsys.readouterr().err
        (tmp_path / "page").touch()
        assert run("report", stores["raw"], "--out", tmp_path / "page") == 2
        assert "is a file: --out must name a folder" in capsys.readouterr().err


class TestNames:
    def test_runs_that_differ_in_their_seed_alone_have_one_name(self):
        config = TrainConfig("resnet8", soft_labels=("a/sort.zarr",), loss="kd")
        assert name_methods([config, replace(config, seed=1)]) == ["kd on sort.zarr"] * 2

    def test_what_differs_among_namesakes_is_named(self):
        config = TrainConfig("resnet8", soft_labels=("a/sort.zarr",), loss="kd")
        names = name_methods([config, replace(config, lr=0.1), replace(config, loss="dkd")])
        assert names == ["kd on sort.zarr, lr 0.05", "kd on sort.zarr, lr 0.1", "dkd on sort.zarr"]

    def test_several_students_are_named(self):
        config = TrainConfig("resnet8", loss="ce")
        names = name_methods([config, replace(config, student="resnet14")])
        assert names == ["resnet8: ce", "resnet14: ce"]
