"""`logitbank correct`: make a corrected store from a raw one."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from logitbank.jobs.arguments import positive, threads
from logitbank.jobs.cluster.where import add_cluster_arguments, check_cluster_arguments
from logitbank.jobs.device_processes import add_devices_argument, run_on_devices
from logitbank.jobs.parts import Part, add_part_argument, chosen_part, seal_when_whole
from logitbank.jobs.paths import location, out_path
from logitbank.jobs.plan import require_room, require_store_place, store_bytes, store_plan
from logitbank.jobs.progress import Progress
from logitbank.jobs.stopping import StopSignals, until_stopped
from logitbank.stores.errors import UsageError
from logitbank.stores.files import parse_location

if TYPE_CHECKING:
    from logitbank.jobs.cluster.stages import CorrectionOnCluster
    from logitbank.stores.layout import Unit
    from logitbank.stores.manifest import Manifest
    from logitbank.stores.reader import Store
    from logitbank.stores.writer import StoreWriter

CORRECTION_HELP = "sort, swap, or one of your own, import:MODULE:NAME"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments."""
    parser.add_argument("store", type=location, metavar="STORE", help="the raw store, complete")
    parser.add_argument("--correction", required=True, help=CORRECTION_HELP)
    parser.add_argument(
        "--out", type=out_path, required=True, metavar="STORE", help="the corrected store to make"
    )
    parser.add_argument(
        "--virtual", action="store_true", help="write no rows: correct them whenever they are read"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda[:N]; the same bits on each")
    parser.add_argument(
        "--batch-rows", type=positive, default=16_384, help="wrong rows sent to CUDA at a time"
    )
    parser.add_argument("--threads", type=threads, default=2, help="units corrected at a time")
    add_cluster_arguments(parser)
    add_devices_argument(parser)
    add_part_argument(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan, write nothing")


def run(options: argparse.Namespace) -> int:
    """Correct what is lacking and seal the store."""
    check_cluster_arguments(options)
    require_apart(options.store, options.out)
    if options.devices and not options.dry_run:
        return run_on_devices("correct", options)
    return until_stopped("correct", lambda stop: _make_store(options, stop))


def require_apart(store: str, out: str) -> None:
    """Require a store to be made that is not, holds nothing of, and is no part of the one read.

    Raises:
        UsageError: one lies in the other, also by another path or link.
    """
    source, target = (parse_location(place).real() for place in (store, out))
    if source is None or target is None:
        return
    relations = {
        "is": _is_same(target, source),
        "lies in": any(_is_same(folder, source) for folder in target.parents),
        "holds": any(_is_same(target, folder) for folder in source.parents),
    }
    for relation, holds in relations.items():
        if holds:
            raise UsageError(
                f"--out {out} {relation} the store that is to be corrected, which stays as it is: "
                "name another --out"
            )


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one == other or os.path.samefile(one, other)
    except OSError:
        return False


def _make_store(options: argparse.Namespace, stop: StopSignals) -> None:
    from logitbank.jobs.cluster.stages import correction_on_cluster
    from logitbank.pipeline.preprocess import corrected_manifest, wrong_rows
    from logitbank.stores.layout import all_units
    from logitbank.stores.reader import Store

    part = chosen_part(options)
    require_store_place(options.out)
    parent = Store.open(options.store)
    wanted = corrected_manifest(parent, options.correction)
    wrong, rows = wrong_rows(parent.manifest.measured)
    print(
        f"{options.store}: the label is not first in {wrong:,} of {rows:,} rows "
        f"({100 * wrong / rows:.2f}%); {options.correction} changes these"
    )
    if options.virtual:
        _make_virtual(options, parent)
        return
    share = None if part is None else part.share(all_units(wanted))
    if options.dry_run:
        print("\n".join(store_plan(options.out, wanted, share)))
        return
    require_room(options.out, store_bytes(wanted))
    with correction_on_cluster(options, wanted) as cluster:
        work = CorrectWork(options, parent, stop, cluster)
        if not Path(options.out).exists():
            work.require(all_units(wanted) if share is None else share)
        _correct(options, work, wanted, part, share)


def _correct(
    options: argparse.Namespace,
    work: CorrectWork,
    wanted: Manifest,
    part: Part | None,
    share: list[Unit] | None,
) -> None:
    """Make the layout or go on with what is there, compute what is lacking, and seal."""
    from logitbank.stores.writer import StoreWriter

    parent = work.parent
    open_writer = partial(StoreWriter.open, options.out, wanted, parent.target, parent.sample_id)
    writer = open_writer(share)
    if writer.complete:
        whose = "" if part is None else f" of part {part}"
        print(f"{options.out} is complete: every chunk{whose} was checked, nothing is lacking")
        return
    for key in writer.mended:
        print(f"{options.out}: {key} was bad or stale; mending it")
    sealed: Manifest | None
    if part is None:
        sealed = work.complete(writer)
    else:
        work.compute(writer)
        sealed = seal_when_whole(options.out, wanted, part, open_writer, work.complete)
    if sealed is not None:
        print(
            f"{options.out}: top-1 {parent.manifest.measured.top1:.2f}% before, "
            f"{sealed.measured.top1:.2f}% after; digest {sealed.digest}"
        )


@dataclass(frozen=True)
class CorrectWork:
    """All that is needed to correct what a store, or a share of it, lacks, here or on a cluster."""

    options: argparse.Namespace
    parent: Store
    stop: StopSignals
    cluster: CorrectionOnCluster | None

    def require(self, units: Sequence[Unit]) -> None:
        """Require all that can be known to be needed, before anything is written.

        Raises:
            StoreError: a chunk of the raw store is missing or of another size.
            UsageError: there is no such device, or it doesn't know the correction.
            LogitbankError: the cluster's workers can't compute.
        """
        from logitbank.stores.layout import unit_arrays

        names = [spec.name for spec in unit_arrays(self.parent.arrays)]
        self.parent.require_chunks(names, {unit.view for unit in units})
        if self.cluster is not None:
            self.cluster.require()
            return
        from logitbank.pipeline.preprocess import row_corrector
        from logitbank.stores.corrections import correction_named

        device = _device(self.options.device)
        if device != "cpu":
            kernel = correction_named(self.options.correction)
            row_corrector(kernel, device, self.options.batch_rows)

    def compute(self, writer: StoreWriter) -> None:
        """Correct what is lacking; here less, where a signal asks for an end."""
        if self.cluster is not None:
            self.cluster.compute(writer, Progress("correct", "chunk"))
            return
        from logitbank.pipeline.preprocess import correct_lacking

        with self.stop.blocks_in_hand() as stopped:
            correct_lacking(
                self.parent,
                writer,
                threads=self.options.threads,
                device=_device(self.options.device),
                batch_rows=self.options.batch_rows,
                progress=Progress("correct", "unit"),
                stop=stopped,
            )

    def complete(self, writer: StoreWriter) -> Manifest:
        """Correct all that is lacking in a store, and seal it."""
        from logitbank.pipeline.preprocess import seal_corrected

        self.compute(writer)
        return seal_corrected(writer)


def _device(name: str) -> str:
    """Require a device that there is; the CPU's kernels need no torch."""
    from logitbank.jobs.opening import open_device

    return name if name == "cpu" else open_device(name)


def _make_virtual(options: argparse.Namespace, parent: Store) -> None:
    from logitbank.pipeline.preprocess import write_virtual_store

    if options.dry_run:
        print(f"  {options.out} will be its manifest alone: rows are corrected as they are read")
        return
    sealed, written = write_virtual_store(parent, options.correction, options.out)
    if not written:
        print(f"{options.out} is complete: its manifest is as it was sealed")
        return
    print(
        f"{options.out}: reads {options.store} corrected by {options.correction}; "
        f"digest {sealed.digest}"
    )
    if parse_location(options.out).joined(options.store) is None:
        print(f"{options.out}: no URL is fetched by itself: read it by --parent {options.store}")
