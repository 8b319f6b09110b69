"""`correct --virtual` and `--device` on the command line."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
import torch
import zarr

from logitbank.stores.corrections import CORRECTIONS
from tests.jobs.command import done, run


def test_a_virtual_store_serves_inspect_verify_and_a_second_run(raw, tmp_path, capsys):
    out = tmp_path / "sort.zarr"
    words = ("correct", raw, "--correction", "sort", "--virtual", "--out", out)
    done(*words, "--dry-run")
    assert not out.exists()
    done(*words)
    done(*words)
    assert "is complete" in capsys.readouterr().out
    done("verify", out)
    capsys.readouterr()
    done("inspect", out, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["manifest"]["kind"] == "virtual"
    assert found["units"] == found["units_present"] == 12
    assert found["stored_bytes"] < 5_000


def test_every_job_that_reads_a_store_reads_it_as_the_full_one(raw, teacher, tmp_path):
    full, virtual = tmp_path / "full.zarr", tmp_path / "virtual.zarr"
    done("correct", raw, "--correction", "sort", "--out", full)
    done("correct", raw, "--correction", "sort", "--virtual", "--out", virtual)
    done("verify", virtual, "--deep", "--dataset", "digits", "--teacher", teacher)
    ways = {"full": [full], "virtual": [virtual], "on the fly": [raw, "--correction", "sort"]}
    student = ("--dataset", "digits", "--student", "cifar:resnet8", "--limit", 160, "--epochs", 2)
    weights = []
    for name, words in ways.items():
        done("train", *student, "--soft-labels", *words, "--out", tmp_path / name)
        checkpoint = torch.load(tmp_path / name / "last.pt", weights_only=True)
        weights.append(checkpoint["model"])
    for name, values in weights[0].items():
        assert all(torch.equal(other[name], values) for other in weights[1:]), name
    assert run("correct", virtual, "--correction", "swap", "--out", tmp_path / "twice.zarr") == 2


def test_batches_on_a_device_give_the_store_of_the_kernels(raw, tmp_path, monkeypatch):
    """The CUDA path, on CPU tensors."""
    from logitbank.pipeline.correct import stage
    from logitbank.stores.corrections.device import DeviceCorrector

    done("correct", raw, "--correction", "sort", "--out", tmp_path / "kernels.zarr")
    batched = []

    def corrector(correction, device, batch_rows):
        batched.append(batch_rows)
        return DeviceCorrector(correction.name, device, batch_rows)

    monkeypatch.setattr(stage, "row_corrector", corrector)
    words = ("--correction", "sort", "--batch-rows", 7, "--out", tmp_path / "batched.zarr")
    done("correct", raw, *words)
    assert batched == [7, 7]
    digests = [
        zarr.open_group(tmp_path / f"{name}.zarr", mode="r").attrs["digest"]
        for name in ("kernels", "batched")
    ]
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--correction", "sotr"), "did you mean 'sort'"),
        (("--correction", "sort", "--device", "cuda:99"), "cuda"),
        (("--correction", "import:nowhere:x", "--virtual"), "no module 'nowhere'"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(raw, tmp_path, capsys, words, line):
    assert run("correct", raw, *words, "--out", tmp_path / "out.zarr") == 2
    assert line in capsys.readouterr().err


# ---- A parent that moved, and code that a manifest names


@pytest.fixture
def moved(raw, tmp_path):
    """A virtual store whose parent lies where nothing leads to."""
    parent = shutil.copytree(raw, tmp_path / "raw.zarr")
    path = tmp_path / "virtual" / "sort.zarr"
    done("correct", parent, "--correction", "sort", "--virtual", "--out", path)
    (tmp_path / "far").mkdir()
    return path, parent.rename(tmp_path / "far" / "parent.zarr")


def test_every_job_that_reads_it_takes_parent(moved, tmp_path, capsys):
    path, parent = moved
    student = ("--dataset", "digits", "--student", "cifar:resnet8", "--limit", 160, "--epochs", 1)
    train = ("train", *student, "--soft-labels", path, "--out", tmp_path / "run")
    done("inspect", path)
    assert f"{path} is virtual and its parent can't be found" in capsys.readouterr().out
    for words in (("verify", path), train):
        assert run(*words) == 1
        assert "--parent PATH" in "".join(capsys.readouterr())
    done("inspect", path, "--parent", parent)
    assert f"reads         {parent}: 12 of 12 units are present" in capsys.readouterr().out
    done("verify", path, "--parent", parent)
    (tmp_path / "job.yaml").write_text(f"parent: {parent}\n")
    done(*train, "--config", tmp_path / "job.yaml")
    assert str(parent) not in (tmp_path / "run" / "config.yaml").read_text()
    # Found by itself again, it is the same run.
    parent.rename(tmp_path / "virtual" / "raw.zarr")
    done(*train)
    assert run(*train, "--parent", tmp_path / "virtual" / "raw.zarr", parent) == 2
    assert "one for each: 1 of --soft-labels are virtual, 2 given" in capsys.readouterr().err


def test_a_dry_run_tells_of_chunks_that_lack(moved, tmp_path, capsys):
    path, parent = moved
    words = (
        "train",
        "--dataset",
        "digits",
        "--student",
        "cifar:resnet8",
        "--epochs",
        3,
        "--limit",
        160,
    )
    words = (*words, "--soft-labels", path, "--parent", parent, "--out", tmp_path / "run")
    done(*words, "--dry-run")
    assert "  50 chunks that it will read exist" in capsys.readouterr().out
    (parent / "top/c/1/0/0").unlink()
    assert run(*words, "--dry-run") == run(*words) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len({*lines}) == 1
    assert "chunk top/c/1/0/0 is missing" in lines[0]
    assert not (tmp_path / "run").exists()


def test_verify_deep_runs_a_corrections_code_by_its_allowance_alone(raw, teacher, tmp_path, capsys):
    name = "import:deep_of_a_user:theirs"
    (tmp_path / "deep_of_a_user.py").write_text(
        "import pathlib\n"
        "from logitbank import register_correction\n"
        "pathlib.Path(__file__).with_name('ran').touch()\n"
        "register_correction('theirs', lambda logits, target: logits, temperature=None)\n"
    )
    words = ("correct", raw, "--correction", name, "--out", tmp_path / "theirs.zarr")
    deep = ("verify", tmp_path / "theirs.zarr", "--deep", "--dataset", "digits")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "path", [*sys.path, str(tmp_path)])
        try:
            done(*words)
            forget("deep_of_a_user", "theirs")
            (tmp_path / "ran").unlink()
            done("inspect", tmp_path / "theirs.zarr")
            done(*deep)
            assert run(*deep, "--teacher", teacher) == 1
            assert f"--allow-correction {name}" in capsys.readouterr().err
            assert not (tmp_path / "ran").exists()
            done(*deep, "--teacher", teacher, "--allow-correction", name)
            assert (tmp_path / "ran").exists()
        finally:
            forget("deep_of_a_user", "theirs")


def forget(module: str, correction: str) -> None:
    sys.modules.pop(module, None)
    CORRECTIONS.pop(correction, None)
