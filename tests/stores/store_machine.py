"""A store under all that may happen to it, as a state machine of hypothesis.

Whatever was written, killed, damaged and mended: what a store hands out is what was written, to the
bit, or an error names the store; it is complete only when all of it is there; and it has the digest
of a store that was written in one go.
"""

# Which errors may come depends on the state: `pytest.raises` can't say so.
# ruff: noqa: PT017

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from logitbank.jobs.cli import main
from logitbank.stores.errors import StoreError
from logitbank.stores.reader import Store
from logitbank.stores.verify import verify_store
from logitbank.stores.writer import StoreWriter
from tests.stores.store_examples import files_of, sample_id, target, unit_values
from tests.stores.store_model import (
    COPY,
    MANIFEST,
    WITNESS,
    Fuse,
    KilledError,
    manifest_word,
    model_of,
    open_mortal,
    require_right_rows,
)

NEVER = 10**9
OPERATIONS = 60
"""More than the operations on files of a job that writes the whole store."""
STAYS = "notes.txt"

fractions = st.floats(0, 1, exclude_max=True)
being_written = precondition(lambda self: self.writer is not None)
left_alone = precondition(lambda self: self.writer is None and self.path.exists())
sealed = precondition(
    lambda self: self.writer is None and self.path.exists() and self.word == "complete"
)


class StoreMachine(RuleBasedStateMachine):
    """One store, at most one writer that has it open, and damage while none has."""

    encoding: str

    def __init__(self) -> None:
        super().__init__()
        self.model = model_of(self.encoding)
        self.folder = Path(mkdtemp(prefix="stateful-"))
        self.path = self.folder / "raw.zarr"
        self.writer: StoreWriter | None = None
        self.fuse = Fuse()
        # Whether anything but a job has touched the store since it was found, or made, whole.
        self.is_touched = False
        self.seal_may_fail = False

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    # ---- What is there, by its bytes alone

    @property
    def word(self) -> str:
        return manifest_word(self.path, self.model.wanted)

    def tables_are_bad(self) -> bool:
        return any(k.startswith("crc/") and k != COPY for k in self.model.damaged(self.path))

    def must_open(self) -> bool:
        """Whether what is there proves whose chunks these are."""
        proven = not self.tables_are_bad() and COPY not in self.model.damaged(self.path)
        if self.word == "unreadable":
            return proven or self.has_witness()
        return proven or self.word != "edited"

    def has_witness(self) -> bool:
        try:
            document = json.loads((self.path / WITNESS).read_bytes())
        except (OSError, ValueError):
            return False
        identity = json.loads(json.dumps(self.model.wanted.identity()))
        group = {"zarr_format": 3, "node_type": "group"}
        return document == {**group, "attributes": {"identity": identity}}

    # ---- A job that makes the store

    def open(self, left: int = NEVER) -> bool:
        """Make the store or go on with it; False where it may be refused, and is."""
        exists = self.path.exists()
        must_open = not exists or self.must_open()
        damaged = self.model.damaged_units(self.path) if exists else self.model.units
        misplaced = self.model.misplaced(self.path) if exists else set()
        rest = self.model.damaged(self.path) - misplaced if exists else set()
        torn = {unit for unit in self.model.units if rest.intersection(self.model.unit_keys(unit))}
        tables_are_bad = exists and self.tables_are_bad()
        edited = exists and self.word == "edited"
        copy_is_bad = exists and COPY in self.model.damaged(self.path)
        # Of the three that say whose chunks these are, two don't agree any more.
        self.seal_may_fail = (tables_are_bad and (edited or bool(misplaced))) or (
            edited and copy_is_bad
        )
        strays = {STAYS} & files_of(self.path).keys() if exists else set()
        self.fuse = Fuse(left)
        try:
            writer = open_mortal(self.path, self.model.wanted, self.fuse)
        except StoreError as error:
            assert not must_open, error
            assert str(self.path) in str(error)
            self.start_over()
            return False
        if tables_are_bad and misplaced:
            # A table of another store may be among them, by which good chunks seem misplaced.
            assert torn <= set(writer.missing)
        else:
            assert writer.missing == damaged
        assert self.model.strays(self.path) == strays
        assert not [each for each in self.folder.iterdir() if each.name.startswith(".")]
        self.writer = writer
        if writer.complete:
            self.is_whole()
        return True

    def start_over(self) -> None:
        """Give the place up, as the error says."""
        shutil.rmtree(self.path)
        self.writer, self.is_touched, self.seal_may_fail = None, False, False

    def is_whole(self) -> None:
        """Require every file to be as in a store that was written in one go."""
        assert self.model.damaged(self.path) == set()
        assert self.word == "complete"
        assert Store.open(self.path).manifest.digest == self.model.digest
        self.is_touched = False

    def write(self, writer: StoreWriter, count: int, order: list[int]) -> None:
        """Write some of the missing units, in any order."""
        ranks = dict(zip(self.model.units, order, strict=True))
        for unit in sorted(writer._remaining, key=lambda unit: ranks[unit])[:count]:
            writer.write_unit(unit, unit_values(self.model.wanted, unit))

    def finish(self, writer: StoreWriter) -> None:
        self.writer = None
        if writer.complete:
            return
        try:
            sealed = writer.seal()
        except StoreError as error:
            assert self.seal_may_fail, error
            assert str(self.path) in str(error)
            return
        assert not (self.seal_may_fail and self.model.misplaced(self.path))
        assert sealed.digest == self.model.digest
        self.is_whole()

    @initialize(is_made=st.booleans())
    def make(self, is_made: bool) -> None:
        if is_made:
            self.run_a_job(NEVER, list(range(len(self.model.units))))

    @precondition(lambda self: self.writer is None)
    @rule(
        left=st.one_of(st.just(NEVER), st.integers(0, OPERATIONS)), order=st.permutations(range(6))
    )
    def run_a_job(self, left: int, order: list[int]) -> None:
        """Begin, resume or mend the store in one job, which may be killed anywhere."""
        try:
            if self.open(left):
                assert self.writer is not None
                self.write(self.writer, NEVER, order)
                self.finish(self.writer)
        except KilledError:
            self.writer = None

    @precondition(lambda self: self.writer is None)
    @rule()
    def open_a_writer(self) -> None:
        self.open()

    @being_written
    @rule(count=st.integers(1, 4), order=st.permutations(range(6)))
    def write_units(self, count: int, order: list[int]) -> None:
        assert self.writer is not None
        self.write(self.writer, count, order)

    @being_written
    @rule()
    def seal(self) -> None:
        assert self.writer is not None
        if self.writer._remaining:
            with pytest.raises(StoreError, match="can't be sealed"):
                self.writer.seal()
        else:
            self.finish(self.writer)

    @being_written
    @rule(left=st.integers(0, 6), order=st.permutations(range(6)))
    def kill_the_writer(self, left: int, order: list[int]) -> None:
        assert self.writer is not None
        self.fuse.left = left
        with contextlib.suppress(KilledError):
            self.write(self.writer, 2, order)
        self.writer = None

    # ---- Damage

    def pick(self, fraction: float, keys: list[str] | None = None) -> Path:
        found = sorted(files_of(self.path)) if keys is None else keys
        return self.path / found[int(fraction * len(found))]

    @left_alone
    @rule(file=fractions, place=fractions, bit=st.integers(0, 7))
    def flip_a_bit(self, file: float, place: float, bit: int) -> None:
        path = self.pick(file)
        data = bytearray(path.read_bytes())
        if data:
            data[int(place * len(data))] ^= 1 << bit
            path.write_bytes(data)
            self.is_touched = True

    @left_alone
    @rule(file=fractions, place=fractions)
    def cut_a_file_short(self, file: float, place: float) -> None:
        path = self.pick(file)
        data = path.read_bytes()
        path.write_bytes(data[: int(place * len(data))])
        self.is_touched = True

    @left_alone
    @rule(file=fractions)
    def delete_a_file(self, file: float) -> None:
        keys = sorted(files_of(self.path))
        if len(keys) > 1:
            self.pick(file, keys).unlink()
            self.is_touched = True

    @left_alone
    @rule(manifest=st.booleans())
    def lose_a_small_file(self, manifest: bool) -> None:
        path = self.path / (MANIFEST if manifest else COPY)
        if path.exists():
            path.write_bytes(b"")
            self.is_touched = True

    @left_alone
    @rule(table=fractions)
    def lose_a_table(self, table: float) -> None:
        keys = [
            key for key in sorted(files_of(self.path)) if key.startswith("crc/") and "/c/" in key
        ]
        if keys:
            self.pick(table, keys).write_bytes(b"")
            self.is_touched = True

    # While a store is not sealed, nothing but its own trailer says where a chunk belongs.

    @sealed
    @rule(unit=fractions, other=fractions, array=fractions)
    def swap_two_chunks(self, unit: float, other: float, array: float) -> None:
        units = self.model.units
        one, two = (
            self.pick(array, self.model.unit_keys(units[int(each * len(units))]))
            for each in (unit, other)
        )
        if one != two and one.exists() and two.exists():
            first, second = one.read_bytes(), two.read_bytes()
            one.write_bytes(second)
            two.write_bytes(first)
            self.is_touched = True

    @sealed
    @rule(file=fractions)
    def copy_from_another_store(self, file: float) -> None:
        keys = sorted(self.model.files)
        path = self.pick(file, keys)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.model.foreign[path.relative_to(self.path).as_posix()])
        self.is_touched = True

    @sealed
    @rule(change=st.sampled_from(["top1", "views", "digest", "device", "teacher"]))
    def edit_the_manifest(self, change: str) -> None:
        document = json.loads((self.path / MANIFEST).read_bytes())
        attributes = document["attributes"]
        if change == "top1":
            attributes["measured"]["top1"] = 99.0
        attributes["views"] += change == "views"
        attributes["digest"] = "0" * 64 if change == "digest" else attributes["digest"]
        attributes["provenance"]["device"] += "x" if change == "device" else ""
        attributes["teacher"]["batch_size"] += change == "teacher"
        (self.path / MANIFEST).write_text(json.dumps(document, indent=2))
        self.is_touched = True

    @left_alone
    @rule(kind=st.sampled_from(["notes", "chunk", "partial", "begun"]))
    def leave_a_stray(self, kind: str) -> None:
        ledger = self.model.unit_keys(self.model.units[0])[-1]
        keys = {
            "notes": STAYS,
            "chunk": ledger.replace("/c/0/0", "/c/0/7"),
            "partial": f"{ledger}.0123.partial",
            "begun": "../.raw.zarr.0123.partial/zarr.json",
        }
        path = self.path / keys[kind]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"stray")

    # ---- What everybody sees

    @left_alone
    @rule()
    def verify(self) -> None:
        """It lists what is damaged and, where all that it goes by is whole, nothing else."""
        damaged, strays = self.model.damaged(self.path), self.model.strays(self.path)
        word = self.word
        try:
            problems = verify_store(self.path)
        except StoreError as error:
            assert word in ("unreadable", "edited"), error
            return
        keys = {problem.key for problem in problems}
        if word != "complete":
            assert keys & {MANIFEST, "crc"}
        elif self.tables_are_bad():
            assert damaged - self.model.misplaced(self.path) - keys == set()
        else:
            assert keys == damaged | strays
        removed = {problem.key for problem in problems if problem.remedy != "delete"}
        assert STAYS not in removed

    @sealed
    @rule(name=st.sampled_from(["sort", "swap"]), virtual=st.booleans())
    def correct(self, name: str, virtual: bool) -> None:
        """A whole store is corrected; of a damaged one no wrong row is."""
        out = self.folder / "corrected.zarr"
        words = ["correct", str(self.path), "--correction", name, "--out", str(out)]
        code = main(words + ["--virtual"] * virtual)
        if not self.model.damaged(self.path):
            assert code == 0
            # A virtual store is as clean as its parent.
            strays = {f"{self.path}/{key}" for key in self.model.strays(self.path)}
            assert {problem.key for problem in verify_store(out)} == (strays if virtual else set())
        elif not virtual:
            unit_keys = {key for unit in self.model.units for key in self.model.unit_keys(unit)}
            assert (code == 0) <= (not self.model.damaged(self.path) & unit_keys)
        logits, top = self.model.corrected(name)
        if code == 0:
            self.reads_right(out, {**self.model.rows, "top": top}, logits, self.corrected_arrays)
        shutil.rmtree(out, ignore_errors=True)

    corrected_arrays = ("view_params", "pixel_crc", "top")

    @invariant()
    def no_wrong_row_is_read(self) -> None:
        """Views, blocks and slabs are what was written, or an error names the store."""
        if self.path.exists():
            self.reads_right(self.path, self.model.rows, self.model.logits, self.model.rows)

    @invariant()
    def complete_is_whole(self) -> None:
        if self.path.exists() and not self.is_touched and self.word == "complete":
            self.is_whole()

    def reads_right(
        self, path: Path, rows: Mapping[str, np.ndarray], logits: np.ndarray, names: Iterable[str]
    ) -> None:
        try:
            store = Store.open(path)
            np.testing.assert_array_equal(store.target, target())
            np.testing.assert_array_equal(store.sample_id, sample_id())
        except StoreError as error:
            assert self.is_touched or self.word != "complete", error
            assert str(self.folder) in str(error)
            return
        require_right_rows(self.model, store, self.path, {n: rows[n] for n in names}, logits)
