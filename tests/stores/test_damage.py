"""Nothing wrong is read in silence, and running the job again mends exactly what is bad."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from logitbank.stores.errors import StoreError
from logitbank.stores.layout import all_units
from logitbank.stores.reader import Store
from logitbank.stores.verify import verify_store
from tests.stores.store_examples import (
    SAMPLES,
    files_of,
    logits_of,
    manifest,
    open_writer,
    unit_values,
    write_store,
)


def read_everything(path: Path) -> None:
    store = Store.open(path)
    assert store.target is not None
    assert store.sample_id is not None
    for name in ("view_params", "pixel_crc", "top", "logits"):
        for view in range(store.manifest.views):
            store.read_view(name, view)


def check_refused_then_mended(path: Path, key: str, sealed: Path) -> None:
    """The one invariant: named by verify, refused by readers, mended to the same store."""
    problems = verify_or_refusal(path)
    assert any(key in problem for problem in problems), problems
    with pytest.raises(StoreError):
        read_everything(path)
    check_mended(path, sealed)


def verify_or_refusal(path: Path) -> list[str]:
    try:
        return [f"{problem.key} {problem.cause}" for problem in verify_store(path)]
    except StoreError as error:
        return [f"zarr.json: {error}"]  # No manifest, no layout to hold the rest against.


def check_mended(path: Path, sealed: Path) -> None:
    again = write_store(path)
    assert again.digest == Store.open(sealed).manifest.digest
    assert verify_store(path) == []
    after, before = files_of(path), files_of(sealed)
    assert after.keys() == before.keys()
    # The manifest alone may differ, by the time of sealing.
    assert [key for key in after if after[key] != before[key]] in ([], ["zarr.json"])


KEYS = [
    "zarr.json",
    "crc/zarr.json",
    "crc/logits/zarr.json",
    "crc/logits/c/0/0/0",
    "crc/target/c/0",
    "crc/pixel_crc/c/0/0",
    "target/zarr.json",
    "target/c/0",
    "sample_id/c/0",
    "view_params/zarr.json",
    "view_params/c/1/0/0",
    "pixel_crc/c/2/2",
    "top/c/0/1/0",
    "logits/zarr.json",
    "logits/c/0/0/0",
    "logits/c/2/2/0",
]


@pytest.mark.parametrize("key", KEYS)
def test_a_flipped_bit_in_any_file(store, sealed, key):
    rng = random.Random(key)
    path = store / key
    whole = path.read_bytes()
    for _ in range(6):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        check_refused_then_mended(store, key, sealed)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("damage", ["truncated", "empty", "deleted"])
def test_a_file_that_is_cut_short_or_gone(store, sealed, key, damage):
    path = store / key
    if damage == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: -5 if damage == "truncated" else 0])
    check_refused_then_mended(store, key, sealed)


def test_a_chunk_copied_over_another(store, sealed):
    shutil.copy(store / "logits/c/0/0/0", store / "logits/c/1/0/0")
    check_refused_then_mended(store, "logits/c/1/0/0 belongs elsewhere", sealed)


def test_two_chunks_swapped_are_both_named(store, sealed):
    first, second = store / "top/c/0/0/0", store / "top/c/0/1/0"
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    keys = {problem.key for problem in verify_store(store)}
    assert keys == {"top/c/0/0/0", "top/c/0/1/0"}
    check_mended(store, sealed)


def test_a_chunk_of_another_store(store, sealed, tmp_path):
    other = tmp_path / "other.zarr"
    writer = open_writer(other)
    for unit in writer.missing:
        values = unit_values(writer.manifest, unit)
        writer.write_unit(unit, values | {"logits": values["logits"] + np.float16(1)})
    writer.seal()
    shutil.copy(other / "logits/c/1/1/0", store / "logits/c/1/1/0")
    check_refused_then_mended(store, "logits/c/1/1/0 belongs elsewhere", sealed)


def test_a_foreign_array_of_tables_is_no_disguise(store, sealed):
    """Chunk and table agree, yet the digest does not."""
    shutil.copy(store / "logits/c/0/0/0", store / "logits/c/1/0/0")
    rebuilt = open_writer(store)
    for unit in rebuilt.missing:
        rebuilt.write_unit(unit, unit_values(rebuilt.manifest, unit))
    forged = Path(shutil.copytree(sealed, store.parent / "forged.zarr"))
    (forged / "crc/logits/c/0/0/0").write_bytes((store / "crc/top/c/0/0/0").read_bytes())
    with pytest.raises(StoreError, match="crc does not match the digest"):
        Store.open(forged)


@pytest.mark.parametrize(
    ("field", "value"), [("views", 2), ("encoding", "float32"), ("kind", "corrected")]
)
def test_an_edited_manifest(store, sealed, field, value):
    document = json.loads((store / "zarr.json").read_text())
    document["attributes"][field] = value
    (store / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(StoreError, match=r"zarr\.json was edited or damaged"):
        Store.open(store)
    check_mended(store, sealed)


def test_an_edited_measurement(store, sealed):
    text = (store / "zarr.json").read_text()
    (store / "zarr.json").write_text(text.replace('"top1": 13.3333', '"top1": 99.9'))
    check_refused_then_mended(store, "zarr.json", sealed)


def test_stale_files_are_named_by_verify_and_removed_by_the_job(store, sealed):
    (store / "logits/c/0/0/0.abc.partial").write_bytes(b"half")
    (store / "logits/c/7").mkdir()
    (store / "logits/c/7/0").write_bytes(b"foreign")
    keys = {problem.key for problem in verify_store(store)}
    assert keys == {"logits/c/0/0/0.abc.partial", "logits/c/7/0"}
    check_mended(store, sealed)


def test_a_store_of_other_work_is_left_alone_and_the_fields_are_named(store, sealed):
    before = files_of(store)
    with pytest.raises(StoreError, match="holds other work: views: the store has 3, this job wan"):
        open_writer(store, manifest(views=4))
    assert files_of(store) == before


def test_another_format_version_is_an_error_that_says_so(store):
    document = json.loads((store / "zarr.json").read_text())
    document["attributes"]["format_version"] = 2
    (store / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(StoreError, match="has store format version 2, this logitbank reads ver"):
        Store.open(store)


def test_a_folder_that_is_no_store_is_left_alone(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(StoreError, match="is not a store"):
        open_writer(tmp_path)
    assert files_of(tmp_path) == {"photo.jpg": b"mine"}


def test_an_unfinished_store_goes_on_from_its_good_chunks(tmp_path, sealed):
    path = tmp_path / "raw.zarr"
    writer = open_writer(path)
    for unit in writer.missing[:5]:
        writer.write_unit(unit, unit_values(writer.manifest, unit))
    with pytest.raises(StoreError, match="is incomplete"):
        Store.open(path)
    (path / "logits/c/0/1/0").write_bytes(b"torn")
    (path / "pixel_crc/c/0/2").unlink()
    missing = open_writer(path).missing
    assert [(unit.view, unit.block) for unit in missing] == [
        (0, 1),
        (0, 2),
        (1, 2),
        (2, 0),
        (2, 1),
        (2, 2),
    ]
    check_mended(path, sealed)


def test_sealing_with_a_unit_lacking_is_refused(tmp_path):
    writer = open_writer(tmp_path / "raw.zarr")
    with pytest.raises(StoreError, match="can't be sealed: 9 units are missing"):
        writer.seal()


def test_any_order_of_units_gives_the_same_store(tmp_path, sealed):
    path = tmp_path / "raw.zarr"
    writer = open_writer(path)
    for unit in reversed(all_units(writer.manifest)):
        writer.write_unit(unit, unit_values(writer.manifest, unit))
    writer.seal()
    check_mended(path, sealed)


def test_reading_gives_what_was_written(sealed):
    store = Store.open(sealed)
    out = np.empty((SAMPLES, 7), np.float16)
    for view in range(3):
        assert store.read_view("logits", view, out) is out
        np.testing.assert_array_equal(out, logits_of(view).astype(np.float16))
