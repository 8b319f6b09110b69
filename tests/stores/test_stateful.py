"""A store under all that may happen to it, held against NumPy arrays after each step.

Whatever was written, killed, damaged and mended: what a store hands out is what was written, to the
bit, or an error names the store; it is complete only when all of it is there; and it has the digest
of a store that was written in one go.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from logitbank.stores.errors import StoreError
from logitbank.stores.manifest import Manifest
from logitbank.stores.reader import Store
from logitbank.stores.verify import verify_store
from tests.stores.encoding_examples import ENCODINGS_TESTED, encodings_of_tests, text_of
from tests.stores.store_examples import open_writer, unit_values, write_store
from tests.stores.store_machine import StoreMachine
from tests.stores.store_model import (
    COPY,
    MANIFEST,
    Fuse,
    KilledError,
    model_of,
    open_mortal,
)


@pytest.fixture(autouse=True, scope="module")
def _with_encodings_of_tests():
    with encodings_of_tests():
        yield


def check(encoding: str, examples: int, steps: int, derandomize: bool) -> None:
    """Run the machine for an encoding."""
    name = f"StoreMachine_{encoding.replace('-', '_')}"
    machine = type(name, (StoreMachine,), {"encoding": text_of(encoding)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=derandomize,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


@pytest.mark.parametrize("encoding", ENCODINGS_TESTED)
def test_a_store_is_what_its_model_says_whatever_happens(encoding):
    check(encoding, examples=12, steps=15, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("encoding", ENCODINGS_TESTED)
def test_a_store_is_what_its_model_says_in_a_long_campaign(encoding):
    check(encoding, examples=3_000, steps=40, derandomize=False)


def damage(path: Path, *keys: str) -> None:
    """Swap two chunks of logits, and empty some files."""
    one, two = path / "logits/c/0/0/0", path / "logits/c/1/0/0"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    for key in keys:
        (path / key).write_bytes(b"")


def test_what_was_refused_once_is_refused_again(tmp_path):
    """Where a table is lost and a chunk is another's, the digest alone can tell, and is kept."""
    model, path = model_of("float16"), tmp_path / "raw.zarr"
    write_store(path, model.wanted)
    damage(path, "crc/logits/c/0/0/0")
    for _ in range(2):
        with pytest.raises(StoreError, match="no chunk can be trusted"):
            write_store(path, model.wanted)
        with pytest.raises(StoreError, match="crc/logits"):
            Store.open(path)


@pytest.mark.parametrize("left", range(6))
def test_a_job_killed_as_it_mends_a_lost_manifest_leaves_the_proof(tmp_path, left):
    """The manifest is written anew once no chunk is left that the tables don't vouch for."""
    model, path = model_of("float16"), tmp_path / "raw.zarr"
    write_store(path, model.wanted)
    damage(path, MANIFEST)
    with contextlib.suppress(KilledError):
        open_mortal(path, model.wanted, Fuse(left))
    assert write_store(path, model.wanted).digest == model.digest
    assert verify_store(path) == []


def passes_for_complete(path: Path, wanted: Manifest) -> bool:
    """Say whether `verify`, or the job that is run again, would call a store complete."""
    try:
        is_verified = verify_store(path) == []
    except StoreError:
        is_verified = False
    return is_verified or open_writer(path, wanted).complete


@pytest.mark.parametrize("lost", [(), ("crc/logits/c/0/0/0",), (MANIFEST,), (COPY,)])
def test_what_is_being_mended_never_passes_for_complete(tmp_path, lost):
    """Killed at any operation; all the while nobody can open what a job is mending."""
    model, whole = model_of("float16"), tmp_path / "whole.zarr"
    write_store(whole, model.wanted)
    for left in range(0, 10**9, 3):
        path, fuse, mending = tmp_path / f"{left}.zarr", Fuse(left), False
        shutil.copytree(whole, path)
        for key in ("logits/c/1/1/0", "pixel_crc/c/0/0", *lost):
            (path / key).write_bytes(b"")
        with contextlib.suppress(KilledError):
            writer = open_mortal(path, model.wanted, fuse)
            mending = True
            for unit in writer.missing:
                with pytest.raises(StoreError):
                    Store.open(path)
                writer.write_unit(unit, unit_values(model.wanted, unit))
            writer.seal()
        is_whole = model.damaged(path) == set()
        if mending and not is_whole:
            with pytest.raises(StoreError):
                Store.open(path)
        if passes_for_complete(path, model.wanted):
            assert is_whole
        assert write_store(path, model.wanted).digest == model.digest
        shutil.rmtree(path)
        if fuse.left >= 0:
            break
    assert left > 10
