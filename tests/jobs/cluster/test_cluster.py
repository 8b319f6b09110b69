"""`cache` and `correct` on Dask workers: what is computed where, and what is told of failures."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from logitbank.stores.verify import verify_store
from tests.jobs.command import done, run
from tests.jobs.conftest import cache_words, correct_words, same_store

# A teacher and image files of the user's own that tell what is done with them, and by whom.
TELLING = """
import os, pathlib
import numpy as np
import torch

here = pathlib.Path(__file__).parent

def tell(what):
    with open(here / "told", "a") as file:
        file.write(f"{what} {os.getpid()}\\n")

class Images:
    classes = ("a", "b", "c")

    def __init__(self, split):
        tell(f"opened-{split}")
        self.split = split
        self.targets = np.arange(24) % 3
        self.sample_ids = np.arange(24)

    def __len__(self):
        return 24

    def __getitem__(self, sample):
        if (here / "unreadable").exists() and self.split == "train" and sample == 17:
            raise OSError("the disk has a bad sector")
        if self.split == "train":
            tell(f"decoded-{sample}")
        return np.full((36, 36, 3), 10 * sample, np.uint8), sample % 3

def images(split="train"):
    return Images(split)

def teacher():
    tell("loaded")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.AvgPool2d(16), torch.nn.Flatten(), torch.nn.Linear(12, 3))
    return net, dict(input_size=32)
"""


@pytest.fixture
def telling(tmp_path, monkeypatch) -> str:
    """The name of a module in the current folder, which no worker was started in."""
    name = f"telling_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(TELLING)
    monkeypatch.chdir(tmp_path)
    return name


def telling_words(name: str, out: Path, **changes: object) -> list[object]:
    return cache_words(
        f"import:{name}:teacher",
        out,
        **{
            "dataset": f"import:{name}:images",
            "augmentation": "imagenet-weak:size=32",
            "limit": 24,
            "block-rows": 12,
            "batch-size": 12,
            **changes,
        },
    )


def told(folder: Path) -> list[tuple[str, int]]:
    lines = (folder / "told").read_text().splitlines()
    return [(what, int(pid)) for what, pid in map(str.split, lines)]


def decoded_by_workers(folder: Path) -> Counter[str]:
    """Count decodings; this process looks at some images before anybody computes."""
    return Counter(what for what, pid in told(folder) if "decoded" in what and pid != os.getpid())


def test_local_workers_and_a_report(tmp_path, raw, corrected, capsys):
    out, report = tmp_path / "out.zarr", tmp_path / "report.html"
    done(*correct_words(raw, out, "--cluster", "local:2", "--performance-report", report))
    same_store(out, corrected)
    assert "dashboard of the local cluster: http://" in capsys.readouterr().out
    assert "Dask Performance Report" in report.read_text()


def test_a_report_that_cannot_be_saved_does_not_cost_the_store(
    tmp_path, cluster, raw, monkeypatch, capsys
):
    class Broken:
        def __init__(self, filename: str) -> None:
            self.filename = filename

        def __enter__(self) -> None:
            pass

        def __exit__(self, *error: object) -> None:
            raise OSError("no room for a picture")

    monkeypatch.setattr("distributed.performance_report", Broken)
    out, report = tmp_path / "out.zarr", tmp_path / "report.html"
    sharing = ("--cluster", cluster.address, "--performance-report", report)
    done(*correct_words(raw, out, *sharing))
    assert "can't be saved: OSError: no room for a picture" in capsys.readouterr().err
    assert verify_store(out) == []


def test_only_what_is_lacking_is_computed(tmp_path, cluster, telling, capsys):
    plain, out = tmp_path / "plain.zarr", tmp_path / "out.zarr"
    done(*telling_words(telling, plain))
    shutil.copytree(plain, out)
    (out / "logits/c/1/1/0").unlink()
    (out / "top/c/2/0/0").write_bytes(b"damaged")
    (tmp_path / "told").unlink()
    capsys.readouterr()
    done(*telling_words(telling, out, cluster=cluster.address))
    assert "cache: 100% 2/2" in capsys.readouterr().err
    decoded = decoded_by_workers(tmp_path)
    assert decoded == {f"decoded-{sample}": 1 for sample in range(24)}
    same_store(out, plain)


def test_a_worker_opens_once_and_decodes_once_for_all_views(tmp_path, cluster, telling):
    done(*telling_words(telling, tmp_path / "out.zarr", cluster=cluster.address, views=4))
    counts = Counter(told(tmp_path))
    loaded = {pid: count for (what, pid), count in counts.items() if what == "loaded"}
    assert set(loaded.values()) == {1}
    # The workers that had tasks, and this process, which needs the teacher's identity.
    assert 2 <= len(loaded) <= 3
    decoded = decoded_by_workers(tmp_path)
    assert decoded == {f"decoded-{sample}": 1 for sample in range(24)}
    assert {count for (what, _), count in counts.items() if what == "opened-train"} == {1}


def test_an_unreadable_image_is_named_and_the_job_goes_on_later(tmp_path, cluster, telling, capsys):
    out, plain = tmp_path / "out.zarr", tmp_path / "plain.zarr"
    (tmp_path / "unreadable").touch()
    assert run(*telling_words(telling, out, cluster=cluster.address)) == 1
    err = capsys.readouterr().err
    assert f"sample 17 of import:{telling}:images" in err.splitlines()[-1]
    assert "the disk has a bad sector" in err.splitlines()[-1]
    assert "Traceback" not in err
    (tmp_path / "unreadable").unlink()
    done(*telling_words(telling, out, cluster=cluster.address))
    done(*telling_words(telling, plain))
    same_store(out, plain)


def test_a_teacher_below_what_is_expected_leaves_no_store(tmp_path, cluster, teacher, capsys):
    out = tmp_path / "out.zarr"
    assert run(*cache_words(teacher, out, cluster=cluster.address, expect_top1=99)) == 1
    assert "99.00% " in capsys.readouterr().err
    assert not out.exists()


def test_a_worker_lets_go_of_a_job_that_is_done(tmp_path, cluster, raw):
    from distributed import Client

    done(*correct_words(raw, tmp_path / "o.zarr", "--cluster", cluster.address))
    with Client(cluster.address) as client:
        plugins = client.run(lambda dask_worker: list(dask_worker.plugins))
        assert not [name for each in plugins.values() for name in each if "logitbank" in name]
        assert client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) == 0


def test_a_scheduler_needs_no_torch(tmp_path, cluster, teacher):
    from distributed import Client

    done(*cache_words(teacher, tmp_path / "out.zarr", cluster=cluster.address))
    with Client(cluster.address) as client:
        loaded = client.run_on_scheduler(lambda: __import__("sys").modules.keys())
    assert "logitbank.jobs.cluster.worker" in loaded
    assert "torch" not in loaded


def test_what_a_worker_says_it_wrote_must_be_seen_here(tmp_path, cluster, raw, monkeypatch, capsys):
    from logitbank.jobs.cluster import running

    seen = running.require_visible

    def on_another_disk(files, manifest, written, patience=0.0):
        files.path("logits/c/2/3/0").unlink()
        seen(files, manifest, written, patience)

    monkeypatch.setattr(running, "require_visible", on_another_disk)
    out = tmp_path / "out.zarr"
    assert run(*correct_words(raw, out, "--cluster", cluster.address)) == 1
    assert "a worker has written logits/c/2/3/0" in capsys.readouterr().err
    assert json.loads((out / "zarr.json").read_text())["attributes"]["status"] != "complete"


def test_a_worker_with_other_files_is_noticed(tmp_path, cluster, telling, capsys):
    module = tmp_path / f"{telling}.py"
    there = f"\n        if os.getpid() != {os.getpid()}: self.targets[5] = 0"
    known = "self.targets = np.arange(24) % 3"
    module.write_text(module.read_text().replace(known, known + there))
    words = telling_words(telling, tmp_path / "out.zarr", cluster=cluster.address)
    assert run(*words) == 1
    assert "is not sample 5 of the store being made" in capsys.readouterr().err


class StandInForDaskCuda(ModuleType):
    """A module that starts one CPU worker where dask-cuda starts one for each GPU."""

    def __init__(self) -> None:
        super().__init__("dask_cuda")
        self.asked: list[dict[str, object]] = []

    def LocalCUDACluster(self, **settings):  # noqa: N802
        from distributed import LocalCluster

        self.asked.append(settings)
        return LocalCluster(n_workers=1, dashboard_address=":0", **settings)


def test_cuda_asks_dask_cuda_for_one_worker_a_gpu(tmp_path, raw, corrected, monkeypatch):
    stand_in = StandInForDaskCuda()
    monkeypatch.setitem(sys.modules, "dask_cuda", stand_in)
    out = tmp_path / "out.zarr"
    done(*correct_words(raw, out, "--cluster", "cuda"))
    same_store(out, corrected)
    (asked,) = stand_in.asked
    assert asked["threads_per_worker"] == 1


def test_cuda_workers_without_a_gpu_are_told_of(tmp_path, teacher, monkeypatch, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.setitem(sys.modules, "dask_cuda", StandInForDaskCuda())
    assert run(*cache_words(teacher, tmp_path / "out.zarr", cluster="cuda")) == 1
    err = capsys.readouterr().err
    assert "can't compute: device 'cuda': torch finds 0 CUDA devices" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("cluster", "package", "extra"),
    [("local:2", "distributed", "cluster"), ("cuda", "dask_cuda", "cuda")],
)
def test_an_extra_that_is_not_installed(
    tmp_path, raw, monkeypatch, capsys, cluster, package, extra
):
    monkeypatch.setitem(sys.modules, package, None)
    assert run(*correct_words(raw, tmp_path / "o.zarr", "--cluster", cluster)) == 1
    err = capsys.readouterr().err
    assert package in err
    assert f'pip install "logitbank[{extra}]"' in err
    assert err.count("\n") == 1
