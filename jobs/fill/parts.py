"""Parts: one store made by several processes that know nothing of each other but their number.

Part I of N (from 0) computes the I-th share of the units. Parts may run at any time, together or
one after the other, on machines that share the disk; whoever finds every unit there seals.

The teacher's accuracy is measured by each part that finds no store yet, before it computes; the
store of the first of them stays, with its figures in it, and later parts measure nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from logitbank.jobs.command_line.plan import units_present
from logitbank.stores.errors import StoreError, UsageError
from logitbank.stores.files import open_files
from logitbank.stores.layout import Unit, all_units
from logitbank.stores.manifest import Manifest
from logitbank.stores.reader import Store
from logitbank.stores.writer import StoreWriter

MOST_DIGITS = 12
"""Of a part's number: more parts than any store has units, and still a number to count with."""


@dataclass(frozen=True)
class Part:
    """The share `index`, from 0, of `count`."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read I/N.

        >>> Part.parse("3/8")
        Part(index=3, count=8)

        Raises:
            UsageError: another form, or no such part.
        """
        index, _, count = text.partition("/")
        if not all(number.isdecimal() and len(number) <= MOST_DIGITS for number in (index, count)):
            raise UsageError(f"--part {text!r} is not of the form I/N, such as 0/8")
        if int(count) == 0:
            raise UsageError(f"--part {text}: there is no part of none")
        if int(index) >= int(count):
            raise UsageError(
                f"--part {text}: parts are counted from 0: 0/{count} to {int(count) - 1}/{count}"
            )
        return cls(int(index), int(count))

    @classmethod
    def of_array(cls, environment: Mapping[str, str]) -> Part | None:
        """Return the part of a SLURM array's task, None outside of an array.

        Arrays that start or step otherwise, `--array=1-8` or `--array=0-14:2`, are counted from 0
        and by ones as well. A task that is submitted alone is part 0 of 1.

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
                f"task {task} of a SLURM array of {count} that are not evenly spaced: which part "
                "it is can't be told, give --part I/N"
            )
        return cls(place, int(count))

    def split(self, count: int) -> list[Part]:
        """Cut this part into smaller ones.

        >>> Part(1, 2).split(2)
        [Part(index=2, count=4), Part(index=3, count=4)]
        """
        return [Part(self.index * count + each, self.count * count) for each in range(count)]

    def share(self, units: Sequence[Unit]) -> list[Unit]:
        """Return this part's run of the units; all parts' runs are everything, each unit once."""
        bounds = (len(units) * edge // self.count for edge in (self.index, self.index + 1))
        return list(units[slice(*bounds)])

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def add_part_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--part`."""
    parser.add_argument(
        "--part",
        metavar="I/N",
        help="the I-th share of the units alone, I from 0, beside other processes; a task of a "
        "SLURM array takes its own unless it is given",
    )


def seal_when_whole(
    location: str,
    wanted: Manifest,
    part: Part,
    open_whole: Callable[[], StoreWriter],
    complete: Callable[[StoreWriter], Manifest],
) -> Manifest | None:
    """Seal a store if every part has done its share.

    One process alone does so, after it has checked every chunk; others that come at the same moment
    wait for it. Units that turn out to be bad are computed again by the one who seals.

    Args:
        location: the store.
        wanted: its manifest.
        part: the one that has just done its share.
        open_whole: opens the store with all of its units.
        complete: computes what is missing in the store, and seals it.

    Returns:
        The sealed manifest, None while other parts have something to do.

    Raises:
        LogitbankError: as `complete`.
    """
    files, units = open_files(location), len(all_units(wanted))
    left = units - units_present(files, wanted)
    if left:
        print(
            f"{location}: part {part} is done; other parts still have {left:,} of {units:,} units"
        )
        return None
    with files.sealing():
        sealed = _sealed_manifest(location)
        if sealed is not None:
            print(f"{location}: part {part} is done; another part sealed the store")
            return sealed
        files.wait_for_writers(waiting=lambda count: _tell_waiting(location, count))
        print(f"{location}: part {part} is done, every unit is there: checking and sealing")
        return complete(open_whole())


def _tell_waiting(location: str, count: int) -> None:
    print(
        f"{location}: {count} temporary files are being written, or were by processes killed less "
        "than a minute ago: waiting for them",
        flush=True,
    )


def _sealed_manifest(location: str) -> Manifest | None:
    try:
        return Store.open(location).manifest
    except StoreError:
        return None
