"""The layout is plain Zarr v3: zarr-python alone makes and opens the same thing."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from logitbank.stores.layout import CHUNK_BYTES, rows_per_chunk, store_arrays
from tests.stores.store_examples import logits_of, manifest, write_store


@given(st.integers(1, 2_000_000), st.integers(1, 8_000))
def test_blocks_waste_less_than_a_row_each(samples, row_bytes):
    rows = rows_per_chunk(samples, row_bytes)
    blocks = -(-samples // rows)
    assert blocks * rows - samples < blocks
    assert rows == 1 or rows * row_bytes <= CHUNK_BYTES


@pytest.mark.parametrize("name", list(store_arrays(manifest())))
def test_zarr_python_would_write_the_same_metadata(name):
    spec = store_arrays(manifest())[name]
    array = zarr.create_array(
        zarr.storage.MemoryStore(),
        shape=spec.shape,
        chunks=spec.chunks,
        dtype=spec.dtype,
        compressors=zarr.codecs.Crc32cCodec(),
        dimension_names=spec.dimensions,
        fill_value=0,
    )
    ours, theirs = spec.document(), array.metadata.to_dict()
    assert ours["shape"] == list(theirs["shape"])
    assert ours["data_type"] == theirs["data_type"]
    assert ours["chunk_grid"] == _plain(theirs["chunk_grid"])
    assert ours["chunk_key_encoding"] == _plain(theirs["chunk_key_encoding"])
    assert ours["fill_value"] == theirs["fill_value"]
    assert ours["dimension_names"] == list(theirs["dimension_names"])
    assert [codec["name"] for codec in ours["codecs"]] == ["bytes", "crc32c"]


def _plain(value):
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value


READ_WITH_ZARR_ALONE = """
import sys, zarr
group = zarr.open_group(sys.argv[1], mode="r")
assert group.attrs["format"] == "logitbank" and group.attrs["status"] == "complete"
for name in ("target", "sample_id", "view_params", "pixel_crc", "top", "logits", "crc/logits"):
    print(name, group[name].shape, group[name].dtype, group[name].metadata.dimension_names)
print(group["logits"][2].astype("float32").tobytes().hex())
assert not any(name.startswith("logitbank") for name in sys.modules)
"""


def test_zarr_alone_opens_a_finished_store(tmp_path):
    write_store(tmp_path / "raw.zarr")
    out = subprocess.run(
        [sys.executable, "-c", READ_WITH_ZARR_ALONE, str(tmp_path / "raw.zarr")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout.splitlines()
    assert out[:-1] == [
        "target (10,) int32 ('sample',)",
        "sample_id (10,) uint64 ('sample',)",
        "view_params (3, 10, 3) int16 ('view', 'sample', 'column')",
        "pixel_crc (3, 10) uint32 ('view', 'sample')",
        "top (3, 10, 7) uint8 ('view', 'sample', 'rank')",
        "logits (3, 10, 7) float16 ('view', 'sample', 'class')",
        "crc/logits (3, 3, 1) uint32 ('view_chunk', 'sample_chunk', 'class_chunk')",
    ]
    assert out[-1] == logits_of(2).astype(np.float16).astype(np.float32).tobytes().hex()
