"""`logitbank verify`: check every byte of a store and name what is bad."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from logitbank.jobs.arguments import threads
from logitbank.jobs.opening import PARENT_HELP, add_allowance_argument
from logitbank.jobs.paths import location
from logitbank.jobs.progress import Progress
from logitbank.stores.errors import UsageError
from logitbank.stores.verify import Problem, verify_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments."""
    parser.add_argument("store", type=location, metavar="STORE", help="path or URL of a store")
    parser.add_argument(
        "--deep", action="store_true", help="draw all views of --dataset again and compare pixels"
    )
    parser.add_argument("--dataset", metavar="SPEC", help="what the store was made from")
    parser.add_argument("--teacher", metavar="SPEC", help="run it again on a batch of each unit")
    parser.add_argument("--parent", type=location, metavar="STORE", help=PARENT_HELP)
    add_allowance_argument(parser)
    parser.add_argument("--device", help="of the teacher")
    parser.add_argument("--workers", type=threads, default=2, help="threads that render images")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Check a store; 1 when anything is wrong with it."""
    if options.deep != (options.dataset is not None) or (options.teacher and not options.deep):
        raise UsageError("--deep goes with --dataset SPEC, and --teacher SPEC with both")
    problems = verify_store(options.store, Progress("verify", "chunk"), parent=options.parent)
    if options.deep and not problems:
        problems = _deep_problems(options)
    if options.json:
        found = [asdict(problem) for problem in problems]
        print(json.dumps({"store": options.store, "good": not problems, "problems": found}))
    elif not problems:
        print(f"{options.store}: every chunk, table and document is as it was sealed")
        if options.deep:
            print(f"{options.store}: {options.dataset} gives the same samples, views and pixels")
        if options.teacher:
            print(f"{options.store}: {options.teacher} says the same on a batch of each unit")
    for problem in [] if options.json else problems:
        print(f"{problem.key}: {problem.cause}")
    if problems:
        print(
            f"logitbank verify: error: {options.store} has {len(problems)} bad or stray files; "
            "run the job that made it again to mend it",
            file=sys.stderr,
        )
    return 1 if problems else 0


def _deep_problems(options: argparse.Namespace) -> list[Problem]:
    from logitbank.jobs.opening import open_device, open_model
    from logitbank.pipeline.datasets import open_dataset
    from logitbank.pipeline.deep_verify import Depth, verify_deeply
    from logitbank.stores.reader import Store

    store = Store.open(
        options.store, parent=options.parent, allow_corrections=options.allow_correction
    )
    identity = store.manifest.dataset
    dataset = open_dataset(options.dataset, identity.split)
    if len(dataset) > identity.samples:
        dataset = dataset.head(identity.samples)
    teacher = None
    if options.teacher is not None:
        teacher = open_model(options.teacher, dataset, pretrained=True)
    depth = Depth(teacher, open_device(options.device), options.workers)
    return verify_deeply(store, dataset, depth, Progress("verify --deep", "view"))
