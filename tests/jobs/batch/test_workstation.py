"""jobs/batch/workstation.sh: all of it, killed once and run again, its counts and its failures."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from logitbank.stores.reader import Store
from logitbank.stores.verify import verify_store
from tests.jobs.command import ROOT, done
from tests.jobs.conftest import cache_words

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")

SCRIPT = ROOT / "jobs" / "batch" / "workstation.sh"
EPOCHS, SAMPLES, VIEWS = 5, 160, 2
TRAIN_FLAGS = ["--limit", SAMPLES, "--threads", 1, "--device", "cpu"]
RUNS = ["cifar-resnet8-sort-seed3", "cifar-resnet8-sort-seed4"]


def begin(out: Path, teacher: str, **settings: object) -> subprocess.Popen[str]:
    """Start the script in a process group of its own."""
    usual: dict[str, object] = {
        "LOGITBANK": f"{sys.executable} -m logitbank.jobs.cli",
        "DATASET": "digits",
        "TEACHER": teacher,
        "AUGMENTATION": "cifar-weak:flip=no",
        "VIEWS": VIEWS,
        "STORES": "sort",
        "STUDENTS": "cifar:resnet8",
        "SEEDS": "3 4",
        "EPOCHS": EPOCHS,
        "OUT": out,
        "CACHE_FLAGS": f"--limit {SAMPLES} --block-rows 40 --batch-size 64",
        "TRAIN_FLAGS": " ".join(map(str, TRAIN_FLAGS)),
    }
    given = {name: str(value) for name, value in (usual | settings).items()}
    return subprocess.Popen(
        ["bash", str(SCRIPT)],
        cwd=ROOT,
        env=os.environ | given,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def epochs_of(run: Path) -> list[dict]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def killed_during(out: Path, run: str, process: subprocess.Popen[str]) -> None:
    """Kill the script and all it has started, once this run has trained an epoch."""
    while process.poll() is None and not epochs_of(out / "students" / run):
        time.sleep(0.002)
    assert process.poll() is None, process.communicate()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def resumed(teacher, tmp_path_factory) -> tuple[Path, str]:
    """What a run leaves and prints that was killed during its first student, then run again."""
    out = tmp_path_factory.mktemp("workstation") / "out"
    killed_during(out, RUNS[0], begin(out, teacher))
    assert 0 < len(epochs_of(out / "students" / RUNS[0])) < EPOCHS
    assert not (out / "students" / RUNS[1]).exists()
    process = begin(out, teacher)
    printed, complaints = process.communicate()
    assert process.returncode == 0, complaints
    return out, printed


def test_its_stores_are_those_of_undisturbed_jobs(resumed, teacher, tmp_path):
    out, _ = resumed
    words = cache_words(teacher, tmp_path / "raw.zarr", views=VIEWS)
    done(*words)
    done("correct", tmp_path / "raw.zarr", "--correction", "sort", "--out", tmp_path / "sort.zarr")
    for name in ("raw.zarr", "sort.zarr"):
        assert verify_store(out / name) == []
        assert Store.open(out / name).manifest.digest == Store.open(tmp_path / name).manifest.digest


def test_the_student_that_was_killed_ends_as_an_undisturbed_one(resumed, tmp_path):
    out, _ = resumed
    words = ["--dataset", "digits", "--student", "cifar:resnet8", "--epochs", EPOCHS, "--seed", 3]
    done("train", *words, "--soft-labels", out / "sort.zarr", *TRAIN_FLAGS, "--out", tmp_path)
    ended, wanted = (
        torch.load(path / "last.pt", weights_only=True)["model"]
        for path in (out / "students" / RUNS[0], tmp_path)
    )
    assert ended.keys() == wanted.keys()
    assert all(torch.equal(ended[name], wanted[name]) for name in wanted)


def test_each_seed_has_its_student_and_its_result(resumed):
    out, printed = resumed
    assert sorted(path.name for path in (out / "students").iterdir()) == sorted(RUNS)
    assert all(len(epochs_of(out / "students" / run)) == EPOCHS for run in RUNS)
    results = (out / "results.txt").read_text().splitlines()
    assert [Path(line.partition(":")[0]).name for line in results] == RUNS
    assert all(line in printed for line in results)


def test_the_teachers_passes_are_counted(resumed):
    out, printed = resumed
    clean = Store.open(out / "raw.zarr").manifest.measured.clean_samples
    store, checked = re.search(r"spent: (\d+) on the store .*\n *and (\d+) on", printed).groups()
    assert int(store) == VIEWS * SAMPLES == 320
    assert int(checked) == clean == 359
    online = re.search(r"teacher in the loop: (\d+) \((\d+) students", printed).groups()
    assert [int(number) for number in online] == [len(RUNS) * EPOCHS * SAMPLES, len(RUNS)]


def test_it_stops_at_the_first_failure_with_that_jobs_message(resumed, teacher):
    out, _ = resumed
    wrong = {"STORES": "raw", "STUDENTS": "cifar:resnet9 cifar:resnet8", "SEEDS": "6"}
    process = begin(out, teacher, **wrong)
    _, complaints = process.communicate()
    assert process.returncode == 2
    message, stopped = complaints.splitlines()[-2:]
    assert message.startswith("logitbank train: error: ")
    assert "did you mean 'resnet8'" in message
    assert stopped.startswith("workstation.sh: error: stopped by exit code 2 of: logitbank train ")
    assert not list((out / "students").glob("*raw*"))


def test_other_settings_in_the_same_folder_are_refused(resumed, teacher):
    out, _ = resumed
    process = begin(out, teacher, VIEWS=VIEWS + 1)
    _, complaints = process.communicate()
    assert process.returncode == 1
    assert re.search(r"logitbank cache: error: .*raw\.zarr.*views", complaints)


def test_it_says_what_it_does_and_takes_no_arguments():
    helped = subprocess.run(["bash", SCRIPT, "--help"], capture_output=True, text=True, check=True)
    assert helped.stdout.startswith("From one teacher to many students")
    assert "results.txt" in helped.stdout
    refused = subprocess.run(["bash", SCRIPT, "--views", "3"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr.startswith("workstation.sh: error: it takes no arguments")
