"""`logitbank correct`: make a corrected store from a raw one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from logitbank.jobs.arguments import positive
from logitbank.jobs.plan import require_room, store_bytes, store_plan
from logitbank.jobs.progress import Progress

if TYPE_CHECKING:
    from logitbank.stores.reader import Store

CORRECTION_HELP = "sort, swap, or one of your own, import:MODULE:NAME"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments."""
    parser.add_argument("store", metavar="STORE", help="the raw store, complete")
    parser.add_argument("--correction", required=True, help=CORRECTION_HELP)
    parser.add_argument("--out", required=True, metavar="STORE", help="the corrected store to make")
    parser.add_argument(
        "--virtual", action="store_true", help="write no rows: correct them whenever they are read"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda[:N]; the same bits on each")
    parser.add_argument(
        "--batch-rows", type=positive, default=16_384, help="wrong rows sent to CUDA at a time"
    )
    parser.add_argument("--threads", type=positive, default=2, help="units corrected at a time")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, write nothing")


def run(options: argparse.Namespace) -> None:
    """Correct what is lacking and seal the store."""
    from logitbank.pipeline.preprocess import correct_store, corrected_manifest, wrong_rows
    from logitbank.stores.reader import Store
    from logitbank.stores.writer import StoreWriter

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
    if options.dry_run:
        print("\n".join(store_plan(options.out, wanted)))
        return
    require_room(Path(options.out), store_bytes(wanted))
    writer = StoreWriter.open(options.out, wanted, parent.target, parent.sample_id)
    if writer.complete:
        print(f"{options.out} is complete: every chunk was checked, nothing is lacking")
        return
    for key in writer.mended:
        print(f"{options.out}: {key} was bad or stale; mending it")
    sealed = correct_store(
        parent,
        writer,
        threads=options.threads,
        device=_device(options.device),
        batch_rows=options.batch_rows,
        progress=Progress("correct", "unit"),
    )
    print(
        f"{options.out}: top-1 {parent.manifest.measured.top1:.2f}% before, "
        f"{sealed.measured.top1:.2f}% after; digest {sealed.digest}"
    )


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
