"""`logitbank report`: a page with figures on stores and the runs that learned from them."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from logitbank.jobs.command_line.arguments import DATASET_HELP, command_line, positive_number
from logitbank.jobs.command_line.opening import add_allowance_argument, parents_of
from logitbank.jobs.command_line.paths import location, out_path
from logitbank.jobs.report.results import TEMPERATURE
from logitbank.stores.errors import UsageError
from logitbank.stores.housekeeping.outside_stores import require_outside_stores

if TYPE_CHECKING:
    from logitbank.jobs.report.results import Report
    from logitbank.pipeline.datasets import ImageDataset
    from logitbank.stores.reader import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments."""
    parser.add_argument(
        "stores", type=location, nargs="+", metavar="STORE", help="paths or URLs of stores"
    )
    parser.add_argument(
        "--runs", type=location, nargs="+", default=[], metavar="RUN", help="finished training runs"
    )
    parser.add_argument(
        "--out",
        type=out_path,
        required=True,
        metavar="DIR",
        help="folder for report.html and its figures",
    )
    parser.add_argument(
        "--dataset",
        metavar="SPEC",
        help=f"the stores' dataset, to show mistakes of the teacher: {DATASET_HELP}",
    )
    parser.add_argument(
        "--temperature",
        type=positive_number,
        default=TEMPERATURE,
        help="temperature of the distributions shown",
    )
    parser.add_argument(
        "--parent",
        type=location,
        nargs="+",
        metavar="STORE",
        help="the parents of virtual stores in their order, if they have moved",
    )
    add_allowance_argument(parser)
    parser.add_argument("--dry-run", action="store_true", help="read everything, write nothing")


def run(options: argparse.Namespace) -> None:
    """Read stores and runs, write the page, and print the accuracies."""
    from logitbank.jobs.report.page import PAGE, write_report
    from logitbank.jobs.report.tables import accuracy_table, table_lines

    out = Path(options.out)
    require_outside_stores(out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: --out must name a folder")
    report = _report(options)
    shown = table_lines(accuracy_table(report)) if report.runs else []
    if options.dry_run:
        print("\n".join([*shown, f"report: {out / PAGE} would be written"]))
        return
    print("\n".join([*shown, f"report: {write_report(report, out)}"]))


def _report(options: argparse.Namespace) -> Report:
    from logitbank.jobs.report.collecting import cost_of, report_of
    from logitbank.jobs.report.runs import read_runs

    stores = _open_stores(options)
    runs = read_runs([Path(path) for path in options.runs])
    report = report_of(
        stores,
        [run.reached for run in runs],
        None if options.dataset is None else _dataset(options.dataset, stores.values()),
        temperature=options.temperature,
    )
    return dataclasses.replace(
        report,
        cost=cost_of(stores.values(), runs),
        commands=(command_line(("report", *options.argv)),),
    )


def _open_stores(options: argparse.Namespace) -> dict[str, Store]:
    """Open the stores by name: the last part of the location, or all of it where two share that."""
    from logitbank.stores.reader import Store

    parents = parents_of(options.stores, options.parent, named="the stores")
    names = [os.path.basename(place.rstrip("/")) for place in options.stores]
    stores: dict[str, Store] = {}
    for place, name, parent in zip(options.stores, names, parents, strict=True):
        shown = place if names.count(name) > 1 else name
        if shown in stores:
            raise UsageError(f"{place} is named twice: name each store once")
        allowed = options.allow_correction
        stores[shown] = Store.open(place, parent=parent, allow_corrections=allowed)
    return stores


def _dataset(spec: str, stores: Iterable[Store]) -> ImageDataset:
    from logitbank.pipeline.datasets import open_dataset

    manifests = [store.manifest for store in stores]
    raw = next((one for one in manifests if one.correction is None), None)
    if raw is None:
        raise UsageError(
            "--dataset shows the mistakes in a raw store, but all of these are corrected: name the "
            "raw one as well, or leave --dataset out"
        )
    dataset = open_dataset(spec, raw.dataset.split)
    return dataset.head(min(len(dataset), raw.dataset.samples))
