"""Whatever an encoding keeps, it goes through the whole house: nobody else knows its name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given
from hypothesis import strategies as st

from logitbank.jobs.command_line.plan import store_bytes, store_plan, units_present
from logitbank.pipeline.correct import CorrectionTask, write_virtual_store
from logitbank.pipeline.store_task import fill_store
from logitbank.stores.chunks import ChunkError, read_chunk, write_chunk
from logitbank.stores.corrections import CORRECTIONS, EncodedCorrection, register_correction
from logitbank.stores.corrections.ranking import top_classes
from logitbank.stores.encodings import ENCODINGS, LogitOutOfRangeError, encoding_named
from logitbank.stores.encodings.codecs import Zstd
from logitbank.stores.errors import LogitbankError, StoreError, UsageError
from logitbank.stores.files import LocalFiles, open_files
from logitbank.stores.layout import ArraySpec, ledger_array, store_arrays, unit_arrays
from logitbank.stores.manifest import Manifest
from logitbank.stores.reader import Store
from logitbank.stores.slab import SlabLoader
from logitbank.stores.summary import summarise, summary_lines
from logitbank.stores.units import require_visible
from logitbank.stores.verify import verify_store
from tests.stores.encoding_examples import ENCODINGS_TESTED, encodings_of_tests, text_of
from tests.stores.store_examples import (
    CLASSES,
    SAMPLES,
    VIEWS,
    logits_of,
    manifest,
    open_writer,
    target,
    unit_values,
    write_store,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _known():
    with encodings_of_tests():
        yield


@pytest.fixture(params=ENCODINGS_TESTED)
def wanted(request) -> Manifest:
    return manifest(encoding=text_of(request.param))


@pytest.fixture
def raw(wanted, tmp_path) -> Path:
    write_store(tmp_path / "raw.zarr", wanted)
    return tmp_path / "raw.zarr"


def ledger_of(wanted: Manifest) -> str:
    return ledger_array(store_arrays(wanted)).name


def corrected_codes(wanted: Manifest, name: str, view: int) -> dict[str, np.ndarray]:
    """What a correction makes of the codes where they move, else of what they stand for."""
    encoding = encoding_named(wanted.encoding)
    codes = encoding.encode(logits_of(view))
    top = top_classes(logits_of(view), target(), CLASSES)
    moved = encoding.codes_move
    if moved is not None:
        CORRECTIONS[name](codes[moved], top, target())
        return codes
    logits = encoding.decode(codes)
    CORRECTIONS[name](logits, top, target())
    return encoding.encode(logits)


# ---- the text form


@pytest.mark.parametrize("name", ENCODINGS_TESTED)
def test_the_text_form_says_every_parameter_and_is_parsed_again(name):
    encoding = encoding_named(name)
    assert encoding_named(str(encoding)) == encoding
    assert str(encoding_named("row-range:steps=64")) == "row-range:steps=64"
    assert str(encoding_named("row-range")) == "row-range:steps=256"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("float61", "unknown encoding 'float61': did you mean 'float16'"),
        (
            "row-range:step=4",
            "unknown parameter of encoding row-range 'step': did you mean 'steps'",
        ),
        ("row-range:steps", "'steps' is not of the form key=value"),
        ("row-range:steps=4,steps=5", "gives steps twice"),
        ("row-range:steps=many", "steps: Input should be a valid integer"),
        ("row-range:steps=257", "steps: Input should be less than or equal to 256"),
        ("float16:steps=2", "float16 has no parameters"),
    ],
)
def test_what_is_no_encoding_is_refused_and_the_nearest_named(text, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        encoding_named(text)


def test_a_manifest_of_an_encoding_that_is_not_known_is_refused(tmp_path):
    attributes = manifest().to_attributes()
    for text in ("logp:levels=64", "row-range:steps=1"):
        with pytest.raises(StoreError, match=f"'encoding' is '{text}', this logitbank reads"):
            Manifest.from_attributes(attributes | {"encoding": text}, "raw.zarr")


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_logit_out_of_range_has_its_row(name, value):
    logits = np.ones((4, 3), np.float32)
    logits[2, 1] = value
    with pytest.raises(LogitOutOfRangeError, match=f"row 2 has .* more than {name} holds") as found:
        encoding_named(name).encode(logits)
    assert found.value.row == 2


# ---- codes


@pytest.mark.parametrize("name", ENCODINGS_TESTED)
def test_numpy_and_torch_decode_the_same_bits(name):
    encoding = encoding_named(name)
    logits = np.random.default_rng(0).normal(0, 5, (64, 33)).astype(np.float32)
    codes = encoding.encode(logits)
    plain = encoding.decode(codes)
    tensors = encoding.decode_tensors({key: torch.from_numpy(each) for key, each in codes.items()})
    assert plain.dtype == np.float32
    assert plain.tobytes() == tensors.numpy().tobytes()
    declared = {array.name: (array.inner, array.dtype) for array in encoding.arrays(33)}
    assert {key: (each.shape[1:], each.dtype) for key, each in codes.items()} == declared
    assert encoding.row_bytes(33) == sum(each[0].nbytes for each in codes.values())


# ---- the house


def test_a_store_reads_back_what_was_encoded(wanted, raw):
    store, encoding = Store.open(raw), encoding_named(wanted.encoding)
    assert verify_store(raw) == []
    assert open_writer(raw, wanted).complete
    for view in range(VIEWS):
        codes = encoding.encode(logits_of(view))
        found = store.read_codes(view)
        assert {name: each.tobytes() for name, each in found.items()} == {
            name: each.tobytes() for name, each in codes.items()
        }
        np.testing.assert_array_equal(store.read_logits(view), encoding.decode(codes))


def test_zarr_alone_reads_the_same_arrays(wanted, raw):
    group = zarr.open_group(raw, mode="r")
    store = Store.open(raw)
    for name in store.row_arrays:
        for view in range(VIEWS):
            np.testing.assert_array_equal(group[name][view], store.read_view(name, view))
        assert "crc32c" in [codec["name"] for codec in _document(raw, name)["codecs"]][-1]


def _document(store: Path, name: str) -> dict:
    return json.loads((store / name / "zarr.json").read_text())


def test_zarr_would_write_the_same_metadata_for_compressed_chunks():
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


def test_two_runs_give_one_digest_whatever_the_order_of_units(wanted, raw, tmp_path):
    writer = open_writer(tmp_path / "again.zarr", wanted)
    told = [writer.write_unit(unit, unit_values(wanted, unit)) for unit in writer.missing[::-1]]
    require_visible(writer.files, wanted, told, patience=0.0)
    assert writer.seal().digest == Store.open(raw).manifest.digest


def test_a_unit_writes_the_ledgers_chunk_last(wanted, tmp_path, monkeypatch):
    writer = open_writer(tmp_path / "raw.zarr", wanted)
    keys, put = [], LocalFiles.put
    monkeypatch.setattr(
        LocalFiles, "put", lambda self, key, parts: keys.append(key) or put(self, key, parts)
    )
    writer.write_unit(writer.missing[0], unit_values(wanted, writer.missing[0]))
    names = [spec.name for spec in unit_arrays(writer.arrays)]
    assert [key.partition("/")[0] for key in keys] == names
    assert names[-1] == ledger_of(wanted) == row_arrays_of(wanted)[-1]
    assert units_present(open_files(tmp_path / "raw.zarr"), wanted) == 1


def row_arrays_of(wanted: Manifest) -> list[str]:
    return [array.name for array in encoding_named(wanted.encoding).arrays(CLASSES)]


def damaged(data: bytes, how: str) -> bytes | None:
    middle = len(data) // 2
    return {
        "flipped": data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :],
        "cut": data[:-3],
        "empty": b"",
        "longer": data + b"\0",
        "gone": None,
    }[how]


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "longer", "gone"])
def test_damage_of_any_array_is_named_and_mended(wanted, raw, how):
    digest = Store.open(raw).manifest.digest
    for name in row_arrays_of(wanted):
        spec = store_arrays(wanted)[name]
        key = spec.chunk_key((1, 2, *(0,) * (len(spec.shape) - 2)))
        changed = damaged((raw / key).read_bytes(), how)
        (raw / key).unlink()
        if changed is not None:
            (raw / key).write_bytes(changed)
        assert [problem.key for problem in verify_store(raw)] == [key]
        with pytest.raises(ChunkError, match=re.escape(key)):
            Store.open(raw).read_logits(1)
        assert key in open_writer(raw, wanted).mended
        assert write_store(raw, wanted).digest == digest


def test_a_chunk_in_anothers_place_is_found_by_the_tables(wanted, raw):
    ledger = ledger_of(wanted)
    shutil.copy(raw / ledger / "c/0/0/0", raw / ledger / "c/1/0/0")
    (problem,) = verify_store(raw)
    assert problem.key == f"{ledger}/c/1/0/0"
    assert "belongs elsewhere" in problem.cause


def test_chunks_are_looked_for_and_units_counted_by_what_sizes_may_be(wanted, raw):
    store, names = Store.open(raw), row_arrays_of(wanted)
    assert store.require_chunks(names, range(VIEWS)) == len(names) * VIEWS * 3 + 2
    (raw / ledger_of(wanted) / "c/2/1/0").write_bytes(b"cut")
    with pytest.raises(ChunkError, match=r"c/2/1/0 is truncated or foreign \(3 bytes"):
        store.require_chunks(names, range(VIEWS))
    summary = summarise(raw)
    assert (summary.units, summary.units_present) == (9, 8)


def test_inspect_prints_what_the_encoding_says_of_itself(wanted, raw):
    encoding = encoding_named(wanted.encoding)
    lines = "\n".join(summary_lines(summarise(raw)))
    assert f"30 as {encoding.describe(CLASSES)}, 9 units" in lines
    assert f"{encoding} ({encoding.summary}, {encoding.row_bytes(CLASSES)} bytes a row" in lines


def test_a_plan_leaves_room_for_every_chunk(wanted, raw):
    chunks = [path for path in raw.rglob("*") if "c" in path.parts and path.is_file()]
    there = sum(path.stat().st_size for path in chunks if "crc" not in path.parts)
    fixed = all(spec.chunk_bytes is not None for spec in store_arrays(wanted).values())
    assert there <= store_bytes(wanted)
    assert (there == store_bytes(wanted)) == fixed
    (line,) = [line for line in store_plan(open_files(raw), wanted) if " bytes as " in line]
    assert line.lstrip().startswith("at most") != fixed


# ---- the slab


def test_a_slab_gathers_and_decodes(wanted, raw):
    loader = SlabLoader(Store.open(raw))
    encoding = encoding_named(wanted.encoding)
    for view, following in [(2, 0), (0, 1), (1, None)]:
        slab = loader.load(view, following, CPU)
        pick = torch.tensor([3, 0, 9, 3])
        expected = encoding.decode(encoding.encode(logits_of(view)))[pick.numpy()]
        assert slab[slab.rows[pick]].numpy().tobytes() == expected.tobytes()
    assert len(slab) == SAMPLES


# ---- corrections


@pytest.mark.parametrize("name", ["sort", "swap"])
def test_stored_virtual_and_read_corrections_equal_correcting_the_codes(
    wanted, raw, tmp_path, name
):
    parent = Store.open(raw)
    fill_store(CorrectionTask.of(parent, name, str(tmp_path / "full.zarr")))
    write_virtual_store(parent, name, tmp_path / "virtual.zarr")
    stores = [
        Store.open(tmp_path / "full.zarr"),
        Store.open(tmp_path / "virtual.zarr"),
        parent.corrected_by(name),
    ]
    for view in range(VIEWS):
        expected = corrected_codes(wanted, name, view)
        for store in stores:
            for array, codes in store.read_codes(view).items():
                assert codes.tobytes() == expected[array].tobytes()
            for array in store.row_arrays:
                assert store.read_view(array, view).tobytes() == expected[array].tobytes()
            assert (store.read_view("top", view)[:, 0] == target()).all()
            slab = SlabLoader(store).load(view, None, CPU)
            decoded = store.encoding.decode(expected)
            assert slab[slab.rows].numpy().tobytes() == decoded.tobytes()
    assert verify_store(tmp_path / "full.zarr") == []
    assert verify_store(tmp_path / "virtual.zarr") == []


@pytest.fixture
def halved():
    """A correction of values: what is above the label is put below it."""

    def below(logits, labels):
        rows = np.arange(len(labels))
        most = logits[rows, labels][:, None]
        revised = np.minimum(logits, most - 1)
        revised[rows, labels] = most[:, 0]
        return revised

    register_correction("halved", below, temperature=None)
    yield below
    del CORRECTIONS["halved"]


def test_a_correction_of_values_acts_on_decoded_rows(wanted, raw, tmp_path, halved):
    parent = Store.open(raw)
    fill_store(CorrectionTask.of(parent, "halved", str(tmp_path / "full.zarr")))
    store, encoding = Store.open(tmp_path / "full.zarr"), parent.encoding
    for view in range(VIEWS):
        codes = encoding.encode(logits_of(view))
        wrong = parent.read_view("top", view)[:, 0] != target()
        assert wrong.any()
        decoded = encoding.decode({name: each[wrong] for name, each in codes.items()})
        again = encoding.encode(halved(decoded, target()[wrong]))
        for name, found in store.read_codes(view).items():
            codes[name][wrong] = again[name]
            assert found.tobytes() == codes[name].tobytes()


def test_revised_values_that_cannot_be_encoded_stop_it():
    encoding = encoding_named("byte-planes")
    large = register_correction(
        "large", lambda logits, labels: logits + np.float32(1e6), temperature=None
    )
    try:
        rows = encoding.encode(np.float32([[2, 1]]))
        correct = EncodedCorrection.of(large, encoding, 2)
        with pytest.raises(LogitbankError, match=r"large: row 0 has a logit of magnitude 1e\+06"):
            correct(rows, np.uint8([[0, 1]]), np.int32([1]))
    finally:
        del CORRECTIONS["large"]


# ---- zstd


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
