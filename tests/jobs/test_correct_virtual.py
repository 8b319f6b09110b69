"""`correct --virtual` and `--device` on the command line."""

from __future__ import annotations

import json

import pytest
import torch
import zarr

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
    from logitbank.pipeline import preprocess
    from logitbank.stores.corrections.device import DeviceCorrector

    done("correct", raw, "--correction", "sort", "--out", tmp_path / "kernels.zarr")
    batched = []

    def corrector(correction, device, batch_rows):
        batched.append(batch_rows)
        return DeviceCorrector(correction.name, device, batch_rows)

    monkeypatch.setattr(preprocess, "row_corrector", corrector)
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
