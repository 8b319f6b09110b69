"""`logitbank verify`: check every byte of a store and name what is bad."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from logitbank.jobs.progress import Progress
from logitbank.stores.verify import verify_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments."""
    parser.add_argument("store", metavar="STORE", help="path or URL of a store")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Check a store; 1 when anything is wrong with it."""
    problems = verify_store(options.store, Progress("verify", "chunk"))
    if options.json:
        found = [asdict(problem) for problem in problems]
        print(json.dumps({"store": options.store, "good": not problems, "problems": found}))
    elif not problems:
        print(f"{options.store}: every chunk, table and document is as it was sealed")
    for problem in [] if options.json else problems:
        print(f"{problem.key}: {problem.cause}")
    if problems:
        print(
            f"logitbank verify: error: {options.store} has {len(problems)} bad or stray files; "
            "run the job that made it again to mend it",
            file=sys.stderr,
        )
    return 1 if problems else 0
