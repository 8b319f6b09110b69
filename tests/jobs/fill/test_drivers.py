"""What everyone who fills a store must do, whichever task it is: what one process alone does.

What only parts, processes or workers can do, and what can happen to them alone, is tested in the
files of each.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from logitbank.stores.reader import Store
from tests.jobs.command import done, run
from tests.jobs.conftest import UNITS, cache_words, correct_words, ledger, same_store

ADDRESS = "ADDRESS"
NOBODY = "tcp://127.0.0.1:9"
DRIVERS = {
    "parts": [("--part", f"{index}/3") for index in (2, 0, 1)],
    "processes": [("--devices", "cpu,cpu")],
    "Dask": [("--cluster", ADDRESS)],
}
"""The flags of each run that it takes."""


@dataclass(frozen=True)
class Job:
    """The words of a job that makes a store, and the store that one process makes by them."""

    words: Callable[[Path], list[object]]
    whole: Path


@pytest.fixture(params=["cache", "correct"])
def job(request, raw, corrected, teacher) -> Job:
    if request.param == "cache":
        return Job(lambda out: cache_words(teacher, out), raw)
    return Job(lambda out: correct_words(raw, out), corrected)


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_store_is_the_one_that_one_process_makes(job, driver, cluster, tmp_path, capfd):
    out, printed, progress = tmp_path / "out.zarr", "", ""
    for flags in DRIVERS[driver]:
        assert run("verify", out) == 1
        capfd.readouterr()
        done(*job.words(out), *(flag.replace(ADDRESS, cluster.address) for flag in flags))
        told = capfd.readouterr()
        printed, progress = printed + told.out, progress + told.err
    same_store(out, job.whole)
    made, plain = (Store.open(path).manifest for path in (out, job.whole))
    assert made.measured == plain.measured
    assert made.provenance.device == plain.provenance.device == "cpu"
    assert printed.count("checking and sealing") == (driver != "Dask")
    if driver == "parts":
        for part, left in (("2/3", 8), ("0/3", 4)):
            rest = f"other parts still have {left} of {UNITS} units"
            assert f"part {part} is done; {rest}\n" in printed
        computed = "160 teacher forward passes in this run"
        assert (computed in printed) == (job.whole.name == "raw.zarr")
    if driver == "processes":
        assert {line.split(":")[0] for line in printed.splitlines()} == {"cpu 0/2", "cpu 1/2"}
    if driver == "Dask":
        assert re.search(r"dashboard of tcp://127.0.0.1:\d+: http://127.0.0.1:\d+/status", printed)
        # Chunks are counted over the cluster, with rate and time left.
        assert re.search(r"(cache|correct): 100% 12/12 \[.*(chunk/s|s/ chunk)\]", progress)
        assert "distributed." not in progress


@pytest.mark.parametrize("flags", [(), ("--part", "1/2"), ("--cluster", NOBODY)])
def test_of_a_complete_store_nothing_is_computed(job, flags, tmp_path, capfd):
    """It isn't even a matter for the cluster."""
    out = Path(shutil.copytree(job.whole, tmp_path / "out.zarr"))
    before = ledger(out)
    done(*job.words(out), *flags)
    whose = " of part 1/2" if "--part" in flags else ""
    assert f"is complete: every chunk{whose} was checked" in capfd.readouterr().out
    assert ledger(out) == before
    same_store(out, job.whole)


@pytest.mark.parametrize("flags", [("--part", "0/2"), ("--devices", "0,1"), ("--cluster", NOBODY)])
def test_a_virtual_store_has_nothing_to_share(flags, tmp_path, capfd):
    out = tmp_path / "out.zarr"
    assert run(*correct_words("raw.zarr", out, "--virtual", *flags)) == 2
    assert f"{flags[0]} can't be given with --virtual" in capfd.readouterr().err
    assert not out.exists()
