"""`logitbank correct`: make a corrected store from a raw one."""

from __future__ import annotations

import argparse
from pathlib import Path

from logitbank.jobs.arguments import positive
from logitbank.jobs.plan import require_room, store_bytes, store_plan
from logitbank.jobs.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments."""
    parser.add_argument("store", metavar="STORE", help="the raw store, complete")
    parser.add_argument("--correction", required=True, help="sort or swap")
    parser.add_argument("--out", required=True, metavar="STORE", help="the corrected store to make")
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
        parent, writer, threads=options.threads, progress=Progress("correct", "unit")
    )
    print(
        f"{options.out}: top-1 {parent.manifest.measured.top1:.2f}% before, "
        f"{sealed.measured.top1:.2f}% after; digest {sealed.digest}"
    )
