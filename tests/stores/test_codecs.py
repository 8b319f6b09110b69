"""Zstandard's frames: of the right size, as zarr writes them, and refused where they are not."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from logitbank.stores.chunks import ChunkError, read_chunk, write_chunk
from logitbank.stores.encodings.codecs import Zstd
from logitbank.stores.files import LocalFiles
from logitbank.stores.layout import ArraySpec, store_arrays
from tests.stores.encoding_examples import encodings_of_tests, text_of
from tests.stores.store_examples import manifest


@given(st.binary(min_size=1, max_size=4096), st.integers(-3, 9))
def test_zstd_gives_bytes_back_and_takes_no_more_than_it_may(data, level):
    codec, values = Zstd(level), np.frombuffer(data, np.uint8)
    frame, out = codec.compress(values), np.empty_like(values)
    codec.decompress(memoryview(frame), out)
    assert out.tobytes() == data
    assert len(frame) <= codec.max_bytes(len(data))


@pytest.mark.parametrize("size", [1, 255, 256, 70_000, 2**20])
def test_a_frame_of_another_size_is_refused(size):
    frame = memoryview(Zstd().compress(np.arange(size, dtype=np.uint32).view(np.uint8)))
    for wrong in (4 * size - 1, 4 * size + 1):
        with pytest.raises(ValueError, match=f"not a zstd frame of {wrong} bytes"):
            Zstd().decompress(frame, np.empty(wrong, np.uint8))
    for bad in (b"", frame[:5], b"x" * 64):
        with pytest.raises(ValueError, match="not a zstd frame"):
            Zstd().decompress(memoryview(bad), np.empty(4 * size, np.uint8))
    with pytest.raises(ValueError):
        Zstd().decompress(frame[:-1], np.empty(4 * size, np.uint8))


def test_a_good_crc_of_what_is_no_frame_is_an_error_that_names_the_chunk(tmp_path):
    files = LocalFiles(tmp_path)
    plain = ArraySpec("top", (4,), (4,), np.dtype("u1"), ("view",))
    write_chunk(files, plain, (0,), np.arange(4, dtype=np.uint8))
    compressed = ArraySpec("top", (4,), (4,), np.dtype("u1"), ("view",), Zstd())
    with pytest.raises(ChunkError, match=r"chunk top/c/0 can't be decompressed \(not a zstd frame"):
        read_chunk(files, compressed, (0,), None)


def test_zarr_would_write_the_same_metadata_for_compressed_chunks():
    with encodings_of_tests():
        spec = store_arrays(manifest(encoding=text_of("row-range")))["step"]
    array = zarr.create_array(
        zarr.storage.MemoryStore(),
        shape=spec.shape,
        chunks=spec.chunks,
        dtype=spec.dtype,
        compressors=[zarr.codecs.ZstdCodec(level=3), zarr.codecs.Crc32cCodec()],
    )
    theirs = [codec.to_dict() for codec in array.metadata.codecs]
    ours = spec.document()["codecs"]
    assert ours[1] == dict(theirs[1])
    assert [codec["name"] for codec in ours] == [codec["name"] for codec in theirs]
