"""The command that made a store mends exactly what is bad in it, whatever that is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from logitbank.stores.reader import Store
from tests.jobs.command import done, run
from tests.jobs.conftest import cache_words, correct_words


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def edit_manifest(path: Path) -> None:
    document = json.loads(path.read_text())
    document["attributes"]["teacher"]["spec"] = "cifar:resnet20"
    path.write_text(json.dumps(document))


DAMAGES = {
    "a flipped bit in a chunk": ("logits/c/1/2/0", flip),
    "a deleted chunk": ("top/c/0/0/0", Path.unlink),
    "an empty chunk": ("pixel_crc/c/2/1", lambda path: path.write_bytes(b"")),
    "a swapped chunk": (
        "logits/c/0/0/0",
        lambda path: shutil.copy(path.parents[2] / "1/0/0", path),
    ),
    "an edited manifest": ("zarr.json", edit_manifest),
    "a manifest that is gone": ("zarr.json", Path.unlink),
    "a damaged table": ("crc/logits/c/0/0/0", flip),
    "a stale temporary file": (
        "logits/c/0/0/0",
        lambda path: path.with_name("0.x.partial").write_bytes(b"half"),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("job", ["cache", "correct"])
def test_damage_is_refused_and_the_same_command_mends_it(
    job, damage, raw, corrected, teacher, tmp_path, capfd
):
    whole = raw if job == "cache" else corrected
    store = Path(shutil.copytree(whole, tmp_path / "store.zarr"))
    key, spoil = DAMAGES[damage]
    spoil(store / key)
    assert run("verify", store) == 1
    words = cache_words(teacher, store) if job == "cache" else correct_words(raw, store)
    capfd.readouterr()
    done(*words)
    passes = " 40 teacher forward passes" if "chunk" in damage else " 0 teacher forward passes"
    if job == "cache":
        assert passes in capfd.readouterr().out
    assert run("verify", store) == 0
    assert Store.open(store).manifest.digest == Store.open(whole).manifest.digest
    assert Store.open(store).manifest.measured == Store.open(whole).manifest.measured
