"""Parts: one store made by several independent processes, of which each knows only the number.

Part I of N (from 0) computes the I-th share of the units. Parts may run at any time, together or
one after the other, on machines that share the disk; the part that completes the store seals it.

Each part that finds no store yet measures the teacher's accuracy before it computes. The first
store to be created stays, with its figures, and later parts measure nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from logitbank.jobs.command_line.plan import units_present
from logitbank.stores.errors import StoreError, UsageError
from logitbank.stores.files import Files
from logitbank.stores.layout import Unit, all_units
from logitbank.stores.manifest import Manifest
from logitbank.stores.reader import Store
from logitbank.stores.writer import StoreWriter

MAX_DIGITS = 12
"""Bounds the number of parts: more than any store has units, and still safe to compute with."""


@dataclass(frozen=True)
class Part:
    """Share `index`, counted from 0, of `count`."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Parse I/N.

        >>> Part.parse("3/8")
        Part(index=3, count=8)

        Raises:
            UsageError: the text is not of this form, or there is no such part.
        """
        index, _, count = text.partition("/")
        if not all(number.isdecimal() and len(number) <= MAX_DIGITS for number in (index, count)):
            raise UsageError(f"--part {text!r} is not of the form I/N, such as 0/8")
        if int(count) == 0:
            raise UsageError(f"--part {text}: N must be at least 1")
        if int(index) >= int(count):
            raise UsageError(
                f"--part {text}: parts are counted from 0: 0/{count} to {int(count) - 1}/{count}"
            )
        return cls(int(index), int(count))

    @classmethod
    def of_array(cls, environment: Mapping[str, str]) -> Part | None:
        """Return the part of this task of a SLURM array, None outside of an array.

        Parts are counted from 0 and by ones for arrays such as `--array=1-8` or `--array=0-14:2`
        as well. A task that is submitted alone is part 0 of 1.

        Raises:
            UsageError: the tasks of the array are not evenly spaced.
        """
        names = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN", "STEP")]
        task, count, first, step = (environment.get(name, "") for name in names)
        if not (task.isdecimal() and count.isdecimal()):
            return None
        place, remainder = divmod(int(task) - int(first or 0), int(step or 1))
        if remainder or not 0 <= place < int(count):
            raise UsageError(
                f"the {count} tasks of this SLURM array are not evenly spaced, so the part of task "
                f"{task} is unknown: give --part I/N"
            )
        return cls(place, int(count))

    def split(self, count: int) -> list[Part]:
        """Split this part into smaller ones.

        >>> Part(1, 2).split(2)
        [Part(index=2, count=4), Part(index=3, count=4)]
        """
        return [Part(self.index * count + each, self.count * count) for each in range(count)]

    def share(self, units: Sequence[Unit]) -> list[Unit]:
        """Return this part's run of the units; each unit is in the run of exactly one part."""
        bounds = (len(units) * edge // self.count for edge in (self.index, self.index + 1))
        return list(units[slice(*bounds)])

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def add_part_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--part`."""
    parser.add_argument(
        "--part",
        metavar="I/N",
        help="compute only the I-th of N shares of the units, I from 0, beside other processes "
        "(default in a SLURM array: the share of the task)",
    )


def seal_when_whole(
    files: Files,
    wanted: Manifest,
    part: Part,
    open_whole: Callable[[], StoreWriter],
    complete: Callable[[StoreWriter], Manifest],
) -> Manifest | None:
    """Seal a store if every part has done its share.

    Only one process seals, after it has checked every chunk and computed bad units again; others
    that arrive at the same moment wait for it.

    Args:
        files: the store's.
        wanted: its manifest.
        part: the part that has just done its share.
        open_whole: opens the store with all of its units.
        complete: computes the missing units of the store, and seals it.

    Returns:
        The sealed manifest, None while other parts have units left.

    Raises:
        LogitbankError: as `complete`.
    """
    where, units = files.where, len(all_units(wanted))
    left = units - units_present(files, wanted)
    if left:
        print(f"{where}: part {part} is done; other parts still have {left:,} of {units:,} units")
        return None
    with files.sealing():
        sealed = _sealed_manifest(files)
        if sealed is not None:
            print(f"{where}: part {part} is done; another part sealed the store")
            return sealed
        files.wait_for_writers(waiting=lambda count: _print_waiting(where, count))
        print(f"{where}: part {part} is done, no unit is missing: checking and sealing")
        return complete(open_whole())


def _print_waiting(where: str, count: int) -> None:
    print(
        f"{where}: {count} temporary files are being written, or were left less than a minute "
        "ago by killed processes: waiting for them",
        flush=True,
    )


def _sealed_manifest(files: Files) -> Manifest | None:
    try:
        return Store.open(files).manifest
    except StoreError:
        return None
