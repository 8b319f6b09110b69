"""`logitbank inspect`: show what a store contains, how it was made and how wrong its teacher is."""

from __future__ import annotations

import argparse
import json

from logitbank.jobs.command_line.opening import PARENT_HELP
from logitbank.jobs.command_line.paths import location
from logitbank.stores.files.printable import printable
from logitbank.stores.summary import summarise, summary_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments."""
    parser.add_argument("store", type=location, metavar="STORE", help="path or URL of a store")
    parser.add_argument("--parent", type=location, metavar="STORE", help=PARENT_HELP)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> None:
    """Print the summary of a store."""
    summary = summarise(options.store, parent=options.parent)
    lines = [json.dumps(summary.to_json())] if options.json else summary_lines(summary)
    print("\n".join(map(printable, lines)))
