"""jobs/batch/slurm-array.sh and slurm-cluster.sh, run for real but for SLURM's own commands."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.cache.test_killed import same_store
from tests.jobs.command import ROOT, done
from tests.jobs.conftest import cache_words
from tests.jobs.fill.test_parts import correct_words, ledger
from tests.jobs.held_job import wait_for

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")

ARRAY, CLUSTER = (ROOT / "jobs" / "batch" / f"slurm-{name}.sh" for name in ("array", "cluster"))
REAL = f"{sys.executable} -m logitbank.jobs.cli"


@pytest.fixture
def slurm(tmp_path) -> Path:
    """A folder with an `srun` that runs its command, and a `scontrol` that is written down."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    (folder / "srun").write_text(f'#!/bin/sh\necho $$ >"{folder}/step"\nexec "$@"\n')
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >>"{folder}/scontrol.log"\n')
    for name in ("srun", "scontrol"):
        (folder / name).chmod(0o755)
    return folder


def submit(
    script: Path, slurm: Path, task: int, words: list[object], **variables: object
) -> subprocess.Popen[str]:
    """Start a script as SLURM does: `--array=0-7`, or the task alone."""
    array = {"ID": task, "COUNT": 8, "MIN": 0, "MAX": 7, "STEP": 1}
    usual: dict[str, object] = {f"SLURM_ARRAY_TASK_{name}": value for name, value in array.items()}
    usual |= {"SLURM_JOB_ID": 4711, "SLURM_ARRAY_JOB_ID": 4700, "SLURM_CPUS_PER_TASK": 3}
    given = {name: str(value) for name, value in (usual | variables).items()}
    return subprocess.Popen(
        ["bash", str(script), *map(str, words)],
        cwd=ROOT,
        env=os.environ | given | {"PATH": f"{slurm}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def requeued(slurm: Path) -> str:
    log = slurm / "scontrol.log"
    return log.read_text() if log.exists() else ""


@pytest.mark.parametrize("script", [ARRAY, CLUSTER])
def test_bash_understands_it(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("script", [ARRAY, CLUSTER])
def test_directives_stand_before_the_first_command(script):
    """SLURM reads no `#SBATCH` line below one."""
    lines = script.read_text().splitlines()
    first = next(index for index, line in enumerate(lines) if line and not line.startswith("#"))
    directives = [line for line in lines if line.startswith("#SBATCH")]
    assert directives == [line for line in lines[:first] if line.startswith("#SBATCH")]
    assert all(re.fullmatch(r"#SBATCH --[a-z-]+(=\S+)?", line) for line in directives)
    for wanted in ("--requeue", "--signal=USR1@300", "--open-mode=append"):
        assert f"#SBATCH {wanted}" in directives


def test_the_array_has_as_many_tasks_as_parts():
    text = ARRAY.read_text()
    (last,), (parts,) = (re.findall(form, text) for form in (r"--array=0-(\d+)\n", r"PARTS:-(\d+)"))
    assert int(last) + 1 == int(parts)


def test_the_tasks_of_an_array_make_the_store(raw, slurm, tmp_path):
    out, wanted = tmp_path / "sort.zarr", tmp_path / "wanted.zarr"
    done(*correct_words(raw, wanted))
    variables = {"PARTS": 2, "LOGITBANK": REAL}
    jobs = [submit(ARRAY, slurm, task, correct_words(raw, out), **variables) for task in range(2)]
    for task, job in enumerate(jobs):
        printed, complaints = job.communicate(timeout=120)
        assert job.returncode == 0, complaints
        assert f"part {task}/2 is done" in printed
    same_store(out, wanted)
    assert requeued(slurm) == ""


def test_a_task_that_is_stopped_is_queued_again_and_goes_on(raw, teacher, slurm, tmp_path):
    """The signal goes to the job step, as `--signal` without `B:` sends it."""
    out = tmp_path / "raw.zarr"
    done(*cache_words(teacher, out, part="0/2"))
    words = cache_words(teacher, out)
    variables = {
        "PARTS": 2,
        "LOGITBANK": f"{sys.executable} -m tests.jobs.held_job unit {tmp_path}",
    }
    job = submit(ARRAY, slurm, 1, words, **variables)
    step = slurm / "step"
    wait_for(lambda: step.exists() and step.read_text().strip(), "the step")
    held = tmp_path / step.read_text().strip()
    wait_for(lambda: held.exists() or job.poll() is not None, "the first unit")
    os.kill(int(held.name), signal.SIGUSR1)
    (tmp_path / "go").touch()
    printed, complaints = job.communicate(timeout=120)
    assert job.returncode == 0, (printed, complaints)
    assert "stopped by SIGUSR1" in complaints
    assert requeued(slurm) == "requeue 4700_1\n"
    assert 6 < len(ledger(out)) < 12
    job = submit(ARRAY, slurm, 1, words, PARTS=2, LOGITBANK=REAL)
    printed, complaints = job.communicate(timeout=120)
    assert job.returncode == 0, complaints
    assert requeued(slurm) == "requeue 4700_1\n"
    same_store(out, raw)


def test_a_task_alone_is_the_same_part(slurm):
    """`--array=5` counts one task: the parts are as many as before."""
    alone = {"SLURM_ARRAY_TASK_COUNT": 1, "SLURM_ARRAY_TASK_MIN": 5}
    job = submit(ARRAY, slurm, 5, ["cache", "--workers", 4], LOGITBANK="echo logitbank", **alone)
    printed, _ = job.communicate(timeout=60)
    assert printed == "logitbank cache --workers 3 --workers 4 --part 5/8\n"


def exits_with(code: int, folder: Path) -> Path:
    """A command that does nothing but end with a code."""
    command = folder / f"exits-with-{code}"
    command.write_text(f"#!/bin/sh\nexit {code}\n")
    command.chmod(0o755)
    return command


@pytest.mark.parametrize("code", [1, 2, 130])
@pytest.mark.parametrize("script", [ARRAY, CLUSTER])
def test_failures_keep_their_exit_code(script, code, slurm, tmp_path):
    job = submit(script, slurm, 0, ["correct", "x"], LOGITBANK=exits_with(code, tmp_path))
    job.communicate(timeout=60)
    assert job.returncode == code
    assert requeued(slurm) == ""


@pytest.mark.parametrize("script", [ARRAY, CLUSTER])
def test_without_a_job_they_say_so(script, slurm):
    job = submit(script, slurm, 0, [])
    _, complaints = job.communicate(timeout=60)
    assert job.returncode == 2
    assert complaints == f"{script.name}: error: no job given: add cache ... or correct ...\n"


def test_the_client_of_a_cluster(slurm, tmp_path):
    job = submit(CLUSTER, slurm, 0, ["cache", "--out", "x y"], LOGITBANK="echo logitbank")
    assert job.communicate(timeout=60)[0] == (
        "logitbank cache --out x y --cluster slurm:jobs/batch/slurm.yaml\n"
    )
    job = submit(CLUSTER, slurm, 0, ["cache"], LOGITBANK=exits_with(75, tmp_path))
    job.communicate(timeout=60)
    assert job.returncode == 0
    assert requeued(slurm) == "requeue 4711\n"
