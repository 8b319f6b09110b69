"""What a cluster can do to a job: workers die, schedulers go, versions differ, people interrupt.

Every process here is real. Corrections of one's own make work slow, or deadly, on purpose.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from logitbank.jobs.cluster import clusters, running, window
from logitbank.stores.reader import Store
from logitbank.stores.verify import verify_store
from tests.jobs.cluster.cluster_processes import group_members, scheduler, start_job, wait_until
from tests.jobs.command import run
from tests.stores.store_examples import logits_of, manifest, target, write_store

VIEWS, UNITS = 8, 24

# Tells who computes, and takes a while.
SLOW = """
import os, pathlib, time
from logitbank import register_correction

def slow(logits, target):
    with open(pathlib.Path(__file__).with_name("pids"), "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(0.3)
    return logits[:, ::-1]

register_correction("NAME", slow, temperature=None)
"""

# Ends its process at a row that only one block of one view has.
DEADLY = """
import os, pathlib
import numpy as np
from logitbank import register_correction

here = pathlib.Path(__file__).parent

def deadly(logits, target):
    if (logits == np.load(here / "row.npy")).all(axis=1).any():
        with open(here / "deaths", "a") as file:
            file.write(f"{os.getpid()}\\n")
        os._exit(1)
    return logits[:, ::-1]

register_correction("deadly", deadly, temperature=None)
"""


@pytest.fixture
def raw(tmp_path) -> Path:
    """A raw store of 8 views of 10 samples in blocks of 4: 24 units."""
    write_store(tmp_path / "raw.zarr", manifest(views=VIEWS))
    return tmp_path / "raw.zarr"


def words(raw: Path, correction: str, cluster: str) -> list[object]:
    out = raw.with_name("out.zarr")
    return ["correct", raw, "--correction", correction, "--out", out, "--cluster", cluster]


def pids(folder: Path) -> list[int]:
    file = folder / "pids"
    return list(map(int, file.read_text().split())) if file.exists() else []


def chunks(store: Path) -> int:
    return len(list(store.glob("logits/c/*/*/0")))


def slow_module(folder: Path, name: str) -> str:
    (folder / f"{name}.py").write_text(SLOW.replace("NAME", name))
    return f"import:{name}:{name}"


def reversed_whole(store: Path) -> None:
    """Require a complete store whose wrong rows are reversed and whose right rows are not."""
    assert verify_store(store) == []
    opened = Store.open(store)
    for view in range(VIEWS):
        logits = logits_of(view)
        wrong = logits.max(axis=1) > logits[np.arange(len(logits)), target()]
        logits[wrong] = logits[wrong, ::-1]
        assert np.array_equal(opened.read_view("logits", view), logits.astype(np.float16))


def one_error(err: str) -> str:
    """Give the one line that says what is wrong; whatever else there is, is progress."""
    assert "Traceback" not in err
    assert "distributed." not in err
    lines = [line for line in err.splitlines() if "chunk/s" not in line and "chunk]" not in line]
    assert len(lines) == 1, err
    return lines[0]


def test_a_worker_killed_in_mid_run_costs_nothing(tmp_path, raw):
    job = start_job(tmp_path, *words(raw, slow_module(tmp_path, "slow"), "local:2"))
    wait_until(lambda: len(pids(tmp_path)) > 4)
    os.kill(pids(tmp_path)[-1], signal.SIGKILL)
    out, err = job.communicate(timeout=120)
    assert job.returncode == 0, err
    assert "digest" in out
    assert "distributed." not in err
    reversed_whole(tmp_path / "out.zarr")
    # The killed task was computed again, by a worker that was started for it.
    assert len(pids(tmp_path)) > UNITS
    assert len(set(pids(tmp_path))) == 3


def test_ctrl_c_leaves_a_store_that_goes_on_and_no_process(tmp_path, raw):
    correction = slow_module(tmp_path, "slow")
    job = start_job(tmp_path, *words(raw, correction, "local:2"))
    wait_until(lambda: chunks(tmp_path / "out.zarr") > 2)
    # A terminal sends it to the whole group, workers included.
    os.killpg(job.pid, signal.SIGINT)
    _, err = job.communicate(timeout=60)
    assert job.returncode == 130
    assert "interrupted: run the same command again to go on from here" in one_error(err)
    wait_until(lambda: group_members(job.pid) == [])
    before = chunks(tmp_path / "out.zarr")
    assert 2 < before < UNITS
    (tmp_path / "pids").unlink()
    again = start_job(tmp_path, *words(raw, correction, "local:2"))
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    # Only what was missing was computed.
    assert len(pids(tmp_path)) == UNITS - before
    reversed_whole(tmp_path / "out.zarr")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGKILL, -9)])
def test_a_client_that_is_stopped_or_killed_leaves_no_process(tmp_path, raw, number, code):
    correction = slow_module(tmp_path, "slow")
    job = start_job(tmp_path, *words(raw, correction, "local:2"))
    wait_until(lambda: chunks(tmp_path / "out.zarr") > 2)
    job.send_signal(number)
    _, err = job.communicate(timeout=60)
    assert job.returncode == code
    assert "Traceback" not in err
    wait_until(lambda: group_members(job.pid) == [])
    assert 2 < chunks(tmp_path / "out.zarr") < UNITS


def test_a_dry_run_opens_no_cluster(tmp_path, raw, capsys):
    assert run(*words(raw, "sort", "tcp://127.0.0.1:9"), "--dry-run") == 0
    assert "24 units of 4 rows, 24 missing" in capsys.readouterr().out


def test_with_all_workers_lost_the_job_stops_and_can_go_on(tmp_path, raw, monkeypatch, capsys):
    monkeypatch.setattr(window, "SECONDS_WITHOUT_WORKERS", 1.0)
    monkeypatch.chdir(tmp_path)
    correction = slow_module(tmp_path, "slow_until_lost")
    with scheduler(tmp_path, workers=2) as cluster:

        def kill_all() -> None:
            wait_until(lambda: chunks(tmp_path / "out.zarr") > 2)
            for worker in cluster.processes[1:]:
                worker.kill()

        killer = threading.Thread(target=kill_all)
        killer.start()
        assert run(*words(raw, correction, cluster.address)) == 1
        killer.join()
        line = one_error(capsys.readouterr().err)
        assert "all workers are gone" in line
        assert "run the same command again to go on from here" in line
        assert 2 < chunks(tmp_path / "out.zarr") < UNITS
        cluster.add_worker()
        assert run(*words(raw, correction, cluster.address)) == 0
    reversed_whole(tmp_path / "out.zarr")


def test_a_lost_scheduler_is_told_of(tmp_path, raw, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    correction = slow_module(tmp_path, "slow_until_alone")
    with scheduler(tmp_path, workers=1) as cluster:

        def kill_it() -> None:
            wait_until(lambda: chunks(tmp_path / "out.zarr") > 2)
            cluster.processes[0].kill()

        killer = threading.Thread(target=kill_it)
        killer.start()
        assert run(*words(raw, correction, cluster.address)) == 1
        killer.join()
    assert "the scheduler is gone" in one_error(capsys.readouterr().err)


def test_a_unit_that_kills_its_workers_is_named(tmp_path, raw):
    (tmp_path / "deadly.py").write_text(DEADLY)
    view, block = 5, 1
    logits = logits_of(view)[4:8]
    wrong = logits.max(axis=1) > logits[np.arange(4), target()[4:8]]
    np.save(tmp_path / "row.npy", logits[wrong][0].astype(np.float16).astype(np.float32))
    job = start_job(
        tmp_path,
        *words(raw, "import:deadly:deadly", "local:2"),
        DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="1",
    )
    _, err = job.communicate(timeout=120)
    assert job.returncode == 1
    line = one_error(err)
    assert f"(view {view}, block {block}) killed every worker that tried it" in line
    assert line.count("(view") == 1
    assert len((tmp_path / "deaths").read_text().split()) >= 2
    wait_until(lambda: group_members(job.pid) == [])


def test_a_scheduler_that_is_not_there(raw, monkeypatch, capsys):
    monkeypatch.setattr(clusters, "SECONDS_TO_CONNECT", 1.0)
    assert run(*words(raw, "sort", "tcp://127.0.0.1:9")) == 1
    line = one_error(capsys.readouterr().err)
    assert "no Dask scheduler can be reached at tcp://127.0.0.1:9" in line


def test_a_scheduler_without_workers(tmp_path, raw, monkeypatch, capsys):
    monkeypatch.setattr(running, "SECONDS_UNTIL_WORKERS", 1.0)
    with scheduler(tmp_path) as cluster:
        assert run(*words(raw, "sort", cluster.address)) == 1
    assert "has no workers, and none has started in 1 s" in one_error(capsys.readouterr().err)


def other_version(folder: Path, package: str) -> str:
    """Make a folder that gives a package another version than it has."""
    found = folder / f"{package}-0.0.1.dist-info"
    found.mkdir()
    (found / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.0.1\n")
    return str(folder)


def test_a_worker_with_other_packages(tmp_path, raw, capsys):
    with scheduler(tmp_path) as cluster:
        cluster.add_worker(PYTHONPATH=other_version(tmp_path, "numba"))
        assert run(*words(raw, "sort", cluster.address)) == 1
    line = one_error(capsys.readouterr().err)
    assert "the worker tcp://127.0.0.1" in line
    assert "numba 0.0.1 there" in line
    assert (
        not raw.with_name("out.zarr").glob("logits/c/*") or chunks(raw.with_name("out.zarr")) == 0
    )


def test_a_scheduler_with_other_packages(tmp_path, raw, capsys):
    with scheduler(tmp_path, PYTHONPATH=other_version(tmp_path, "distributed")) as cluster:
        assert run(*words(raw, "sort", cluster.address)) == 1
    line = one_error(capsys.readouterr().err)
    assert "the scheduler of" in line
    assert "distributed 0.0.1 there" in line


def test_a_worker_without_our_package(tmp_path, raw, capsys):
    (tmp_path / "logitbank.py").write_text("")
    with scheduler(tmp_path) as cluster:
        cluster.add_worker(PYTHONPATH=str(tmp_path))
        assert run(*words(raw, "sort", cluster.address)) == 1
    assert "can't run logitbank" in one_error(capsys.readouterr().err)


def test_a_store_that_workers_do_not_share(tmp_path, raw, monkeypatch, capsys):
    """A worker that finds another store under the path says so, and computes nothing."""
    from logitbank.stores.writer import StoreWriter

    made = StoreWriter.open

    def moved(files, *given):
        return made(f"{files.location}.elsewhere", *given)

    monkeypatch.setattr(StoreWriter, "open", moved)
    with scheduler(tmp_path, workers=1) as cluster:
        assert run(*words(raw, "sort", cluster.address)) == 1
    line = one_error(capsys.readouterr().err)
    assert "must be on a disk that every worker shares" in line
