"""Killed at any moment, nothing is lost: run again, a job ends as an undisturbed one does."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.jobs.command import done, run, start
from tests.jobs.conftest import cache_words, correct_words, same_store

KILLS = 2


def killed_at_random(words: list[object], progress: Callable[[], int], whole: int) -> int:
    """Run a job, killing it somewhere on its way, until it has been killed `KILLS` times.

    `progress` counts what it has done so far, up to `whole`. Gives the number of kills that hit it
    in the middle of its work.
    """
    rng = random.Random(whole)
    hits = 0
    for _ in range(KILLS):
        already = progress()
        target = rng.randint(already, max(already, whole - 1))
        process = start(*words)
        while process.poll() is None and progress() <= target:
            time.sleep(0.0005)
        time.sleep(rng.random() * 0.01)
        hits += process.poll() is None
        process.kill()
        process.wait()
    return hits


def chunks_of(store: Path) -> Callable[[], int]:
    return lambda: sum(1 for path in store.glob("logits/c/*/*/0"))


def test_cache(tmp_path, teacher):
    whole, out = tmp_path / "whole.zarr", tmp_path / "killed.zarr"
    changes = {"block_rows": 10, "views": 6}
    done(*cache_words(teacher, whole, **changes))
    words = cache_words(teacher, out, **changes)
    assert killed_at_random(words, chunks_of(out), 96)
    assert run("verify", out) == 1
    done(*words)
    same_store(out, whole)


def test_correct(tmp_path, teacher):
    raw, whole, out = (tmp_path / f"{name}.zarr" for name in ("raw", "whole", "killed"))
    done(*cache_words(teacher, raw, block_rows=4, views=6))
    done(*correct_words(raw, whole))
    words = correct_words(raw, out)
    assert killed_at_random(words, chunks_of(out), 240)
    done(*words)
    same_store(out, whole)


@pytest.mark.parametrize("source", ["raw", "labels"])
def test_train(tmp_path, raw, source):
    words: list[object] = ["train", "--dataset", "digits", "--student", "cifar:resnet8"]
    words += ["--epochs", 6, "--limit", 160, "--threads", 1, "--device", "cpu"]
    words += ["--soft-labels", raw] if source == "raw" else []
    done(*words, "--out", tmp_path / "whole")
    out = tmp_path / "killed"

    def epochs() -> int:
        lines = out / "metrics.jsonl"
        return len(lines.read_text().splitlines()) if lines.exists() else 0

    assert killed_at_random([*words, "--out", out], epochs, 6)
    done(*words, "--out", out)
    ended, wanted = (
        torch.load(path / "last.pt", weights_only=True)["model"]
        for path in (out, tmp_path / "whole")
    )
    for name, weight in wanted.items():
        assert torch.equal(ended[name], weight), name
    assert epochs() == 6
