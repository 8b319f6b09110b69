"""`logitbank correct`: make a corrected store from a raw one."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from logitbank.jobs.command_line.arguments import positive, threads
from logitbank.jobs.command_line.paths import location, out_path, shared_location
from logitbank.jobs.command_line.plan import require_store_place
from logitbank.jobs.command_line.stopping import StopSignals, until_stopped
from logitbank.jobs.fill.processes import run_on_devices
from logitbank.jobs.fill.sharing import Sharing, add_sharing_arguments
from logitbank.jobs.fill.store import make_store, planned_lines
from logitbank.stores.errors import UsageError
from logitbank.stores.files import open_files, parse_location

if TYPE_CHECKING:
    from logitbank.stores.reader import Store

CORRECTION_HELP = "sort, swap, or one of your own, import:MODULE:NAME"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments."""
    parser.add_argument("store", type=location, metavar="STORE", help="a complete raw store")
    parser.add_argument("--correction", required=True, help=CORRECTION_HELP)
    parser.add_argument(
        "--out", type=out_path, required=True, metavar="STORE", help="the corrected store to make"
    )
    parser.add_argument(
        "--virtual", action="store_true", help="write no rows, but correct them when they are read"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda[:N], with the same results")
    parser.add_argument(
        "--batch-rows", type=positive, default=16_384, help="wrong rows sent to CUDA at a time"
    )
    parser.add_argument("--threads", type=threads, default=2, help="units corrected at a time")
    add_sharing_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan, write nothing")


def run(options: argparse.Namespace) -> int:
    """Correct the missing units and seal the store."""
    sharing = Sharing.parse(
        part=options.part,
        devices=options.devices,
        cluster=options.cluster,
        report=options.performance_report,
        virtual=options.virtual,
    )
    require_apart(options.store, options.out)
    if sharing.devices and not options.dry_run:
        return run_on_devices("correct", options.argv, sharing.devices, sharing.part)
    return until_stopped("correct", lambda stop: _make_store(options, sharing, stop))


def require_apart(store: str, out: str) -> None:
    """Check that the store to be made is not the one read, nor inside it, nor around it.

    Raises:
        UsageError: they are the same or one lies in the other, links resolved.
    """
    source, target = (parse_location(place).real() for place in (store, out))
    if source is None or target is None:
        return
    relations = {
        "is": _is_same(target, source),
        "lies in": any(_is_same(folder, source) for folder in target.parents),
        "contains": any(_is_same(target, folder) for folder in source.parents),
    }
    for relation, holds in relations.items():
        if holds:
            raise UsageError(
                f"--out {out} {relation} the store to be corrected, which must stay as it is: "
                "name another --out"
            )


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one == other or os.path.samefile(one, other)
    except OSError:
        return False


def _make_store(options: argparse.Namespace, sharing: Sharing, stop: StopSignals) -> None:
    from logitbank.pipeline.correct import CorrectionTask, wrong_rows
    from logitbank.stores.reader import Store

    files = open_files(options.out)
    require_store_place(files)
    parent = Store.open(options.store)
    is_shared = sharing.cluster is not None
    task = CorrectionTask.of(
        parent,
        options.correction,
        options.out,
        location=shared_location(options.store) if is_shared else options.store,
        threads=options.threads,
        device=options.device,
        batch_rows=options.batch_rows,
    )
    wrong, rows = wrong_rows(parent.manifest.measured)
    print(
        f"{options.store}: the label is not first in {wrong:,} of {rows:,} rows "
        f"({100 * wrong / rows:.2f}%); {options.correction} changes these"
    )
    if options.virtual:
        _make_virtual(parent, options.correction, options.store, options.out, options.dry_run)
        return
    if options.dry_run:
        print("\n".join(planned_lines(task, files, sharing.part)))
        return
    filled = make_store(
        task, files, sharing, stop, job="correct", rows="row", cluster_device=options.device
    )
    if filled is not None:
        print(
            f"{options.out}: top-1 {parent.manifest.measured.top1:.2f}% before, "
            f"{filled.manifest.measured.top1:.2f}% after; digest {filled.manifest.digest}"
        )


def _make_virtual(parent: Store, correction: str, store: str, out: str, dry_run: bool) -> None:
    from logitbank.pipeline.correct import write_virtual_store

    if dry_run:
        print(f"  {out} will only have a manifest: rows are corrected as they are read")
        return
    sealed, written = write_virtual_store(parent, correction, out)
    if not written:
        print(f"{out} is complete: its manifest is as it was sealed")
        return
    print(f"{out}: reads {store} corrected by {correction}; digest {sealed.digest}")
    if parse_location(out).joined(store) is None:
        print(f"{out}: a parent behind a URL is not fetched by itself: add --parent {store}")
