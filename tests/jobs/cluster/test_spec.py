"""WHERE as a user writes it, the files of queues, and what a queue is asked to run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from logitbank.jobs.cluster.clusters import queue_arguments
from logitbank.jobs.cluster.queue_settings import QueueSettings, read_queue_settings
from logitbank.jobs.cluster.spec import (
    LocalGpus,
    LocalWorkers,
    Queue,
    RunningScheduler,
    parse_cluster,
)
from logitbank.stores.errors import UsageError
from tests.jobs.cluster.cluster_processes import group_members, start_job, wait_until
from tests.jobs.command import ROOT, done, run
from tests.stores.store_examples import manifest, write_store

LEAST = "workers: 2\ncores: 4\nmemory: 8GB\n"


@pytest.fixture
def file(tmp_path):
    def written(text: str) -> Path:
        (tmp_path / "queue.yaml").write_text(text)
        return tmp_path / "queue.yaml"

    return written


def test_where_is_read_into_a_value(file):
    assert parse_cluster("local:3") == LocalWorkers(3)
    assert parse_cluster("local").workers >= 1
    assert parse_cluster("tcp://10.0.0.1:8786") == RunningScheduler("tcp://10.0.0.1:8786")
    assert parse_cluster("tls://node:8786") == RunningScheduler("tls://node:8786")
    assert parse_cluster("cuda") == LocalGpus()
    found = parse_cluster(f"slurm:{file(LEAST)}")
    assert found == Queue("slurm", QueueSettings(workers=2, cores=4, memory="8GB"))


def test_local_workers_share_the_cores(monkeypatch):
    monkeypatch.setattr("logitbank.jobs.cluster.spec._cores", lambda: 10)
    assert [LocalWorkers(workers).threads for workers in (1, 3, 10, 40)] == [10, 3, 1, 1]
    assert parse_cluster("local") == LocalWorkers(4)


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("locl:2", "unknown --cluster 'locl:2': did you mean 'local:N'?"),
        ("local:0", "N of local:N must be a whole number from 1 on"),
        ("local:two", "N of local:N must be a whole number"),
        ("tcp://node1", "has no host or port"),
        ("tcp://:8786", "has no host or port"),
        ("tcp://node1:x", "has no host or port"),
        ("slurm", "names no file: write slurm:FILE.yaml"),
        ("pbs:nowhere.yaml", "pbs:nowhere.yaml can't be read: No such file"),
        ("cuda:1", "unknown --cluster"),
        ("http://node1:8787", "unknown --cluster"),
    ],
)
def test_a_wrong_where_is_one_line_and_exit_code_2(capsys, where, line):
    assert run("correct", "raw", "--correction", "sort", "--out", "o", "--cluster", where) == 2
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "must map setting names to values"),
        ("a: [1", "is not YAML"),
        ("cores: 4\nmemory: 8GB", "workers is missing"),
        ("workers: 2\nmemory: 8GB", "cores is missing"),
        (LEAST + "partition: gpu", "unknown setting in {} 'partition': "),
        (LEAST + "worker: 3", "did you mean 'workers'?"),
        (LEAST + "walltime: 12:00:00", 'walltime must be quoted: "HH:MM:SS"'),
        (LEAST + "resource_spec: a", "unknown setting in"),
        (LEAST + "processes: 5", "processes is 5, but there are only 4 cores"),
        (LEAST + "job_extra_directives: --gres=gpu:1", "job_extra_directives: input should be"),
        (LEAST.replace("4", "four"), "cores: input should be a valid integer, not 'four'"),
        (LEAST.replace("4", "0"), "cores: input should be greater than or equal to 1, not 0"),
        (LEAST.replace("8GB", "8"), "memory: input should be a valid string, not 8"),
        (LEAST.replace("8GB", "much"), "memory: 'much' is not a size such as 32GB"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_setting(file, text, line):
    path = file(text)
    with pytest.raises(UsageError) as raised:
        read_queue_settings("slurm", path)
    assert line.replace("{}", str(path)) in str(raised.value)
    assert str(path) in str(raised.value)


def test_where_may_stand_in_a_file_of_settings(raw, tmp_path, capsys):
    config = tmp_path / "config.yaml"
    words = ["correct", raw, "--config", config, "--out", tmp_path / "o.zarr"]
    config.write_text("correction: sort\ncluster: locl:2\n")
    assert run(*words) == 2
    assert "unknown --cluster 'locl:2'" in capsys.readouterr().err
    config.write_text("correction: sort\ncluster: local:1\n")
    done(*words)
    assert "dashboard of the local cluster" in capsys.readouterr().out


def test_a_report_needs_a_cluster_and_a_folder(raw, tmp_path, capsys):
    words = ["correct", raw, "--correction", "sort", "--out", tmp_path / "o.zarr"]
    assert run(*words, "--performance-report", "r.html") == 2
    assert "it needs --cluster WHERE" in capsys.readouterr().err
    missing = tmp_path / "nowhere" / "r.html"
    assert run(*words, "--cluster", "local", "--performance-report", missing) == 2
    assert "its folder does not exist" in capsys.readouterr().err


def test_a_cluster_of_gpus_computes_on_them(teacher, tmp_path, capsys):
    from tests.jobs.conftest import cache_words

    words = cache_words(teacher, tmp_path / "o.zarr", cluster="cuda", device="cpu")
    assert run(*words) == 2
    assert "--cluster cuda computes on cuda, not on --device cpu" in capsys.readouterr().err


def test_a_machine_without_the_queue(raw, tmp_path, file, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    words = ["correct", raw, "--correction", "sort", "--out", tmp_path / "o.zarr"]
    assert run(*words, "--cluster", f"slurm:{file(LEAST)}") == 1
    assert (
        "needs sbatch to submit batch jobs, which is not on this machine" in capsys.readouterr().err
    )


# ---- what a queue is asked to run


def script(kind: str, settings: QueueSettings) -> str:
    jobqueue = pytest.importorskip("dask_jobqueue")
    cluster = {"slurm": jobqueue.SLURMCluster, "pbs": jobqueue.PBSCluster}[kind]
    options = {"dashboard_address": ":0", "port": 0}
    with cluster(**{**queue_arguments(settings), "scheduler_options": options}) as made:
        return made.job_script()


def test_the_slurm_example_asks_for_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = script("slurm", read_queue_settings("slurm", ROOT / "jobs" / "batch" / "slurm.yaml"))
    lines = text.splitlines()
    assert lines[0].startswith("#!")
    for wanted in (
        "-J logitbank",
        "-p gpu",
        "--cpus-per-task=8",
        "--mem=30G",
        "-t 04:00:00",
        "--gres=gpu:1",
    ):
        assert f"#SBATCH {wanted}" in lines, wanted
    worker = lines[-1].split()
    assert worker[1:3] == ["-m", "distributed.cli.dask_worker"]
    # One task at a time, whatever dask-jobqueue makes of the cores: the last flag counts.
    flags = [worker[at + 1] for at, word in enumerate(worker) if word == "--nthreads"]
    assert flags[-1] == "1"
    assert "--nanny" in worker
    assert "export OMP_WAIT_POLICY=PASSIVE" in lines
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0


def test_the_pbs_example_asks_for_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = read_queue_settings("pbs", ROOT / "jobs" / "batch" / "pbs.yaml")
    lines = script("pbs", settings).splitlines()
    assert "#PBS -l select=1:ncpus=8:mem=32gb" in lines
    assert "#PBS -l walltime=01:00:00" in lines
    worker = lines[-1].split()
    assert worker[worker.index("--nworkers") + 1] == "2"
    assert worker[worker.index("--memory-limit") + 1] == "14.90GiB"
    assert settings.threads == 4


QUEUE = """#!/bin/bash
# Starts jobs at once, in the background.
echo "$@" >> "$(dirname "$0")/submitted"
cp "${!#}" "$(dirname "$0")/script.sh"
bash "$(dirname "$0")/script.sh" > /dev/null 2>&1 < /dev/null &
echo "Submitted batch job $!"
"""
CANCEL = """#!/bin/bash
echo "$1" >> "$(dirname "$0")/cancelled"
pkill -P "$1"
kill "$1"
"""
REFUSED = """#!/bin/bash
echo "sbatch: error: Invalid account" >&2
exit 1
"""


def executables(folder: Path, **scripts: str) -> dict[str, str]:
    """Put scripts into a folder of their own; give the PATH that finds them first."""
    folder.mkdir()
    for name, text in scripts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture
def small_raw(tmp_path) -> Path:
    write_store(tmp_path / "raw.zarr", manifest())
    return tmp_path / "raw.zarr"


@pytest.mark.skipif(shutil.which("bash") is None, reason="the queue's stand-in is a bash script")
def test_a_job_on_a_queue(tmp_path, small_raw, file):
    """A stand-in for SLURM's commands, which starts what it is given: the rest is real."""
    pytest.importorskip("dask_jobqueue")
    environment = executables(tmp_path / "bin", sbatch=QUEUE, scancel=CANCEL)
    path = file("workers: 1\ncores: 1\nmemory: 1GB\n")
    done("correct", small_raw, "--correction", "sort", "--out", tmp_path / "plain.zarr")
    words = ["correct", small_raw, "--correction", "sort", "--out", tmp_path / "out.zarr"]
    job = start_job(tmp_path, *words, "--cluster", f"slurm:{path}", **environment)
    out, err = job.communicate(timeout=120)
    assert job.returncode == 0, err
    assert "waiting for the queue to start the first of 1 workers" in out
    digests = [
        (tmp_path / name / "crc" / "zarr.json").read_text() for name in ("out.zarr", "plain.zarr")
    ]
    assert digests[0] == digests[1]
    assert (tmp_path / "bin" / "cancelled").exists()
    wait_until(lambda: group_members(job.pid) == [])


@pytest.mark.skipif(shutil.which("bash") is None, reason="the queue's stand-in is a bash script")
def test_a_queue_that_refuses_a_job(tmp_path, small_raw, file):
    pytest.importorskip("dask_jobqueue")
    environment = executables(tmp_path / "bin", sbatch=REFUSED, scancel=CANCEL)
    words = ["correct", small_raw, "--correction", "sort", "--out", tmp_path / "out.zarr"]
    job = start_job(tmp_path, *words, "--cluster", f"slurm:{file(LEAST)}", **environment)
    _, err = job.communicate(timeout=60)
    assert job.returncode == 1
    assert "Invalid account" in err
    assert "Traceback" not in err
    assert err.count("\n") == 1
