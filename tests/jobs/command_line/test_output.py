"""What jobs print fits where it goes, and a failure of the machine is one line."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import threading

import pytest

from logitbank.jobs.cli import main
from logitbank.jobs.command_line.failures import failure_line
from logitbank.jobs.command_line.output import PrintableLines, readable_output
from tests.jobs.command import ROOT, run

ESCAPES = "odd\x1b[2J\u202e.zarr"


def narrow(monkeypatch) -> tuple[io.TextIOWrapper, io.TextIOWrapper]:
    """Make stdout and stderr ASCII alone, as in a pipe under LANG=C."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
    for name, stream in zip(("stdout", "stderr"), streams, strict=True):
        monkeypatch.setattr(sys, name, stream)
    return streams[0], streams[1]


def written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode("ascii")


class TestCharacters:
    def test_signs_are_written_in_letters_where_an_encoding_lacks_them(self, monkeypatch):
        out, err = narrow(monkeypatch)
        with readable_output():
            print("93.21 ± 0.04, 40 views × 10 − 1, 3 µs, 猫 …")
            print("epoch — 1", file=sys.stderr)
        assert written(out) == "93.21 +- 0.04, 40 views x 10 - 1, 3 us, \\u732b ...\n"
        assert written(err) == "epoch - 1\n"

    def test_every_line_of_a_job_can_be_printed(self, raw, tmp_path, monkeypatch):
        store = tmp_path / "naïve\udce9"
        shutil.copytree(raw, store)
        out, err = narrow(monkeypatch)
        assert main(["inspect", str(store)]) == 0
        assert main(["verify", str(store)]) == 0
        assert main(["inspect", str(tmp_path / "±nowhere\udce9")]) == 1
        assert re.search(r"na\\xefve\\(x|udc)e9: raw logits, complete", written(out))
        assert re.search(r"\+-nowhere\\(x|udc)e9: no such folder", written(err))

    def test_nothing_on_stdout_acts_on_a_terminal(self, raw, tmp_path, capsys):
        store = tmp_path / ESCAPES
        shutil.copytree(raw, store)
        for job in ("inspect", "verify"):
            assert run(job, store) == 0
            assert f"{tmp_path}/odd\\x1b[2J\\u202e.zarr: " in capsys.readouterr().out

    def test_nor_does_the_line_of_an_error(self, tmp_path, capsys):
        assert run("inspect", tmp_path / ESCAPES) == 1
        assert "odd\\x1b[2J\\u202e.zarr: no such folder\n" in capsys.readouterr().err

    def test_lines_stay_lines(self):
        stream = io.StringIO()
        print("one", "two\rthree", sep="\n", file=PrintableLines(stream))
        assert re.fullmatch(r"one\ntwo\\(r|x0d)three\n", stream.getvalue())

    @pytest.mark.parametrize("settings", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}])
    def test_in_a_process_of_its_own(self, settings):
        utf8 = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        words = [sys.executable, "-m", "logitbank.jobs.cli", "inspect", "/nowhere/×\x1b"]
        job = subprocess.run(words, cwd=ROOT, env=os.environ | utf8 | settings, capture_output=True)
        assert job.returncode == 1
        assert job.stderr.startswith(b"logitbank inspect: error: there is no store at /nowhere/")
        assert b"\x1b" not in job.stderr


class TestStreams:
    def test_closed_ones_lead_nowhere_and_no_file_takes_their_place(self, raw, tmp_path):
        words = f"-m logitbank.jobs.cli correct {raw} --correction sort --out {tmp_path}/o"
        script = f"{sys.executable} {words} <&- >&- 2>&-"
        assert subprocess.run(["sh", "-c", script], cwd=ROOT).returncode == 0
        assert run("verify", tmp_path / "o") == 0

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only some systems have it")
    def test_a_full_one_is_one_line(self):
        with open("/dev/full", "w") as full:
            words = [sys.executable, "-m", "logitbank.jobs.cli", "--version"]
            job = subprocess.run(words, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
        assert job.returncode == 1
        assert job.stderr == "logitbank: error: the disk is full: a file was not written\n"

    def test_a_folder_that_is_gone_is_one_line(self, tmp_path, monkeypatch, capsys):
        (tmp_path / "gone").mkdir()
        monkeypatch.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        try:
            assert run("demo") == 1
        finally:
            os.chdir(ROOT)
        assert capsys.readouterr().err == (
            "logitbank demo: error: the current folder was removed: change to another one\n"
        )


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "says"),
        [
            (RuntimeError("can't start new thread"), "no more threads can be started"),
            (MemoryError(), "there is not enough memory"),
            (MemoryError("Unable to allocate 2 PiB"), "Unable to allocate 2 PiB"),
            (RuntimeError("CUDA out of memory.\nTried"), "enough memory: CUDA out of memory. T"),
            (RuntimeError("DefaultCPUAllocator: can't allocate memory: you"), "not enough memory"),
            (RecursionError("maximum recursion depth"), "nested too deeply"),
            (OSError(28, "No space left on device", "x"), "the disk is full: x was not written"),
            (PermissionError(13, "Permission denied", "x"), "Permission denied: 'x'"),
        ],
    )
    def test_what_the_machine_lacks_is_said(self, raw, monkeypatch, capsys, error, says):
        def fail(location: str, *, parent: str | None) -> None:
            raise error

        monkeypatch.setattr("logitbank.jobs.inspect.summarise", fail)
        assert run("inspect", raw) == 1
        line = capsys.readouterr().err
        assert says in line
        assert line.count("\n") == 1

    @pytest.mark.parametrize("bug", [RuntimeError("shapes"), ValueError("x"), KeyError("y")])
    def test_a_bug_keeps_its_traceback(self, raw, monkeypatch, bug):
        def fail(location: str, *, parent: str | None) -> None:
            raise bug

        monkeypatch.setattr("logitbank.jobs.inspect.summarise", fail)
        assert failure_line(bug) is None
        with pytest.raises(type(bug)):
            run("inspect", raw)

    @pytest.mark.parametrize("job", ["verify", "correct"])
    def test_a_thread_that_may_not_be_started(self, raw, tmp_path, monkeypatch, capsys, job):
        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        out = tmp_path / "out"
        words = {"verify": ["verify", raw], "correct": ["correct", raw, "--correction", "sort"]}
        words["correct"] += ["--out", out]
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            assert run(*words[job]) == 1
        assert "no more threads can be started" in capsys.readouterr().err
        assert run(*words[job]) == 0
