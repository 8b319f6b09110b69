"""`--part`: parts that know nothing of each other make the store that one process makes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitbank.jobs.cluster.spec import LocalWorkers
from logitbank.jobs.fill.parts import Part
from logitbank.jobs.fill.sharing import Sharing
from logitbank.stores.errors import UsageError
from logitbank.stores.layout import Unit
from logitbank.stores.reader import Store
from logitbank.stores.verify import verify_store
from tests.jobs.cache.test_killed import same_store
from tests.jobs.command import done, run
from tests.jobs.conftest import cache_words
from tests.jobs.held_job import HeldJob

UNITS = 12


@pytest.fixture(scope="module")
def corrected(raw, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("corrected") / "sort.zarr"
    done(*correct_words(raw, path))
    return path


def correct_words(raw: Path, out: Path, part: str | None = None) -> list[object]:
    words: list[object] = ["correct", raw, "--correction", "sort", "--out", out]
    return words if part is None else [*words, "--part", part]


def ledger(store: Path) -> dict[Path, int]:
    """The units that are there, each with the time it was written."""
    return {
        path.relative_to(store): path.stat().st_mtime_ns for path in store.glob("logits/c/*/*/0")
    }


def make_old(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (0, 0))


# Which part


@given(st.integers(1, 40), st.integers(0, 100))
def test_parts_are_everything_once_and_alike_in_size(count, units):
    every = [Unit(index % 7, index) for index in range(units)]
    shares = [Part(index, count).share(every) for index in range(count)]
    assert [unit for share in shares for unit in share] == every
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 50))
def test_a_part_that_is_split_is_the_same_units(count, ways, units):
    every = [Unit(0, index) for index in range(units)]
    for part in (Part(index, count) for index in range(count)):
        pieces = [unit for piece in part.split(ways) for unit in piece.share(every)]
        assert pieces == part.share(every)


@pytest.mark.parametrize("text", ["", "3", "1/", "/2", "a/b", "-1/2", "2/2", "0/0", "1/2/3", "½/2"])
def test_no_such_part_is_one_clear_error(text):
    with pytest.raises(UsageError, match="--part"):
        Part.parse(text)


def array_task(task: int, count: int, first: int = 0, step: int = 1) -> dict[str, str]:
    names = {"ID": task, "COUNT": count, "MIN": first, "MAX": first, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in names.items()}


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "7"}, None),
        (array_task(0, 8), Part(0, 8)),
        (array_task(7, 8), Part(7, 8)),
        (array_task(8, 8, first=1), Part(7, 8)),
        (array_task(6, 8, step=2), Part(3, 8)),
        (array_task(13, 3, first=5, step=4), Part(2, 3)),
        (array_task(5, 1, first=5), Part(0, 1)),
    ],
)
def test_a_task_of_an_array_is_a_part(environment, part):
    assert Part.of_array(environment) == part


def test_tasks_that_are_not_evenly_spaced_are_refused():
    for task in (5, 2):
        with pytest.raises(UsageError, match="give --part I/N"):
            Part.of_array(array_task(task, 2, first=0, step=1 if task == 5 else 4))


def test_the_flag_wins_over_the_array_and_a_cluster_takes_no_part(monkeypatch):
    for name, value in array_task(3, 4).items():
        monkeypatch.setenv(name, value)
    cluster = LocalWorkers(2)
    assert Sharing.parse().part == Part(3, 4)
    assert Sharing.parse(part="1/2").part == Part(1, 2)
    assert Sharing.parse(cluster=cluster).part is None
    with pytest.raises(UsageError, match="--part can't be given with --cluster"):
        Sharing.parse(part="1/2", cluster=cluster)


def test_virtual_stores_have_no_parts(raw, tmp_path, capfd):
    assert run(*correct_words(raw, tmp_path / "v.zarr", "0/2"), "--virtual") == 2
    assert "--part can't be given with --virtual" in capfd.readouterr().err


# One part after the other


def test_cache_in_parts(raw, teacher, tmp_path, capfd):
    out = tmp_path / "raw.zarr"
    for index, left in [(2, 8), (0, 4), (1, 0)]:
        done(*cache_words(teacher, out, part=f"{index}/3"))
        printed = capfd.readouterr().out
        assert len(ledger(out)) == UNITS - left
        if left:
            told = f"part {index}/3 is done; other parts still have {left} of {UNITS} units\n"
            assert told in printed
            assert run("verify", out) == 1
            capfd.readouterr()
        else:
            assert "160 teacher forward passes" in printed
    same_store(out, raw)
    assert Store.open(out).manifest.measured == Store.open(raw).manifest.measured


def test_correct_in_parts_of_an_array(raw, corrected, tmp_path, monkeypatch, capfd):
    """The tasks of `--array=1-5`, from their variables alone."""
    out = tmp_path / "sort.zarr"
    for task in range(1, 6):
        for name, value in array_task(task, 5, first=1).items():
            monkeypatch.setenv(name, value)
        done(*correct_words(raw, out))
    printed = capfd.readouterr().out
    assert [f"part {index}/5 is done" in printed for index in range(5)] == [True] * 5
    assert printed.count("checking and sealing") == 1
    same_store(out, corrected)


def test_parts_go_on_from_one_process_and_one_process_from_parts(raw, corrected, tmp_path):
    for name, first, then in [("a", ["0/3"], [None]), ("b", [None], ["1/2", "0/2"])]:
        out = tmp_path / f"{name}.zarr"
        for part in first:
            done(*correct_words(raw, out, part))
        for unit in list(ledger(out))[::2]:
            (out / unit).unlink()
        for part in then:
            done(*correct_words(raw, out, part))
        same_store(out, corrected)


def test_more_parts_than_units(raw, corrected, tmp_path):
    out = tmp_path / "sort.zarr"
    for index in range(UNITS + 3):
        done(*correct_words(raw, out, f"{index}/{UNITS + 3}"))
    same_store(out, corrected)


def test_a_part_computes_only_what_it_lacks(raw, corrected, tmp_path):
    out = tmp_path / "sort.zarr"
    done(*correct_words(raw, out, "0/2"))
    before = ledger(out)
    lost = sorted(before)[1]
    (out / lost).unlink()
    done(*correct_words(raw, out, "0/2"))
    after = ledger(out)
    assert [unit for unit in after if after[unit] != before[unit]] == [lost]
    done(*correct_words(raw, out, "1/2"))
    same_store(out, corrected)


def test_a_part_of_a_complete_store_has_nothing_to_do(raw, corrected, tmp_path, capfd):
    out = Path(shutil.copytree(corrected, tmp_path / "sort.zarr"))
    before = ledger(out)
    done(*correct_words(raw, out, "1/2"))
    assert "is complete: every chunk of part 1/2 was checked" in capfd.readouterr().out
    assert ledger(out) == before
    same_store(out, corrected)


def test_a_part_mends_a_chunk_of_a_complete_store(raw, corrected, tmp_path):
    out = Path(shutil.copytree(corrected, tmp_path / "sort.zarr"))
    (out / "top/c/2/3/0").write_bytes(b"torn")
    done(*correct_words(raw, out, "0/2"))
    assert verify_store(out) != []
    done(*correct_words(raw, out, "1/2"))
    same_store(out, corrected)


def test_who_seals_measures_again_what_a_lost_manifest_said(raw, teacher, tmp_path):
    out = Path(shutil.copytree(raw, tmp_path / "raw.zarr"))
    (out / "zarr.json").unlink()
    done(*cache_words(teacher, out, part="0/2"))
    same_store(out, raw)
    assert Store.open(out).manifest.measured == Store.open(raw).manifest.measured


def test_who_seals_mends_what_has_gone_bad_in_other_parts(raw, corrected, tmp_path, capfd):
    out = tmp_path / "sort.zarr"
    done(*correct_words(raw, out, "0/2"))
    chunk = out / "logits/c/0/1/0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    done(*correct_words(raw, out, "1/2"))
    same_store(out, corrected)


def test_parts_leave_temporary_files_and_who_seals_removes_old_ones(raw, corrected, tmp_path):
    out = tmp_path / "sort.zarr"
    done(*correct_words(raw, out, "0/2"))
    temporary = [out / f"logits/c/{unit}/0.ab12.partial" for unit in ("0/0", "2/3")]
    for path in temporary:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"being written")
    done(*correct_words(raw, out, "0/2"))
    assert [path.read_bytes() for path in temporary] == [b"being written"] * 2
    make_old(*temporary)
    done(*correct_words(raw, out, "1/2"))
    same_store(out, corrected)


def test_a_task_that_is_submitted_alone_works_beside_the_others(
    raw, corrected, tmp_path, monkeypatch
):
    """`--array=5` has a count of 1: all that is missing is its, yet it is not alone."""
    out = tmp_path / "sort.zarr"
    done(*correct_words(raw, out, "0/4"))
    temporary = out / "logits/c/1/0/0.ab12.partial"
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_bytes(b"being written")
    for name, value in array_task(5, 1, first=5).items():
        monkeypatch.setenv(name, value)
    job = HeldJob("count", tmp_path / "gate", *correct_words(raw, out))
    job.wait_until_held()
    assert temporary.exists()
    assert len(ledger(out)) == UNITS
    temporary.unlink()
    job.let_go()
    assert job.end()[0] == 0
    same_store(out, corrected)


def test_the_plan_of_a_part(raw, tmp_path, capfd):
    out = tmp_path / "sort.zarr"
    done(*correct_words(raw, out, "0/3"))
    capfd.readouterr()
    for part, missing in [("0/3", 0), ("1/3", 4)]:
        done(*correct_words(raw, out, part), "--dry-run")
        told = f"this part takes 4 of the units, {missing} missing"
        assert told in capfd.readouterr().out


# Parts as processes at the same moment


def test_parts_that_start_and_finish_together_seal_once(raw, corrected, tmp_path):
    out, count = tmp_path / "sort.zarr", 4
    jobs = [
        HeldJob("count", tmp_path / "gate", *correct_words(raw, out, f"{index}/{count}"))
        for index in range(count)
    ]
    for job in jobs:
        job.wait_until_held()
    assert len(ledger(out)) == UNITS
    assert not (out / "crc").exists()
    jobs[0].let_go()
    ends = [job.end() for job in jobs]
    assert [code for code, _, _ in ends] == [0] * count, ends
    told = "".join(printed for _, printed, _ in ends)
    assert told.count("checking and sealing") == 1
    assert told.count("another part sealed the store") == count - 1
    assert told.count(f"digest {Store.open(corrected).manifest.digest}") == count
    same_store(out, corrected)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_two_parts_that_find_no_store_at_the_same_moment(raw, teacher, tmp_path):
    out = tmp_path / "raw.zarr"
    jobs = [
        HeldJob("create", tmp_path / "gate", *cache_words(teacher, out, part=f"{index}/2"))
        for index in range(2)
    ]
    for job in jobs:
        job.wait_until_held()
    assert not out.exists()
    jobs[0].let_go()
    ends = [job.end() for job in jobs]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert sum("checking and sealing" in printed for _, printed, _ in ends) == 1
    same_store(out, raw)
    assert Store.open(out).manifest.measured == Store.open(raw).manifest.measured
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_who_seals_waits_for_a_file_that_is_being_written(raw, corrected, tmp_path):
    out = tmp_path / "sort.zarr"
    done(*correct_words(raw, out, "0/2"))
    written = out / "logits/c/0/0/0.ab12.partial"
    shutil.copy(out / "logits/c/0/0/0", written)
    job = HeldJob("count", tmp_path / "gate", *correct_words(raw, out, "1/2"))
    job.wait_until_held()
    job.let_go()
    told = iter(job.process.stdout.readline, "")
    assert any("1 temporary files are being written" in line for line in told)
    assert written.exists()
    assert not (out / "crc").exists()
    written.rename(out / "logits/c/0/0/0")
    assert job.end()[0] == 0
    same_store(out, corrected)


def test_a_part_killed_while_it_seals_stops_nobody(raw, corrected, tmp_path):
    out = tmp_path / "sort.zarr"
    done(*correct_words(raw, out, "0/2"))
    killed = HeldJob("seal", tmp_path / "gate", *correct_words(raw, out, "1/2"))
    killed.wait_until_held()
    killed.process.kill()
    assert killed.end()[0] == -9
    locks = list(tmp_path.glob(".sort.zarr.sealing.*"))
    assert len(locks) == 1
    make_old(*locks)
    done(*correct_words(raw, out, "1/2"))
    same_store(out, corrected)
    assert list(tmp_path.glob(".sort.zarr*")) == []


def test_a_part_killed_in_its_middle_goes_on(raw, corrected, tmp_path):
    out = tmp_path / "sort.zarr"
    done(*correct_words(raw, out, "1/2"))
    killed = HeldJob("unit", tmp_path / "gate", *correct_words(raw, out, "0/2"))
    killed.wait_until_held()
    killed.process.kill()
    killed.end()
    done(*correct_words(raw, out, "0/2"))
    same_store(out, corrected)
