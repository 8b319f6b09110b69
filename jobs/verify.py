"""`logitbank verify`: check every byte of a store and list what is damaged."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict
from typing import get_args

from logitbank.jobs.command_line.arguments import threads
from logitbank.jobs.command_line.opening import PARENT_HELP, add_allowance_argument
from logitbank.jobs.command_line.paths import location
from logitbank.jobs.command_line.progress import Progress
from logitbank.stores.errors import UsageError
from logitbank.stores.files.printable import printable
from logitbank.stores.verify import Problem, Remedy, verify_store

ORDER = get_args(Remedy)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments."""
    parser.add_argument("store", type=location, metavar="STORE", help="path or URL of a store")
    parser.add_argument(
        "--deep", action="store_true", help="draw all views of --dataset again and compare pixels"
    )
    parser.add_argument(
        "--dataset", metavar="SPEC", help="the dataset that the store was made from"
    )
    parser.add_argument(
        "--teacher", metavar="SPEC", help="the teacher, to run again on a batch of each unit"
    )
    parser.add_argument("--parent", type=location, metavar="STORE", help=PARENT_HELP)
    add_allowance_argument(parser)
    parser.add_argument("--device", help="device of the teacher")
    parser.add_argument("--workers", type=threads, default=2, help="threads that render images")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Check a store, and return 1 if it has any problem."""
    if options.deep != (options.dataset is not None) or (options.teacher and not options.deep):
        raise UsageError("--deep needs --dataset SPEC, and --teacher SPEC needs both")
    problems = verify_store(options.store, Progress("verify", "chunk"), parent=options.parent)
    if options.deep and not problems:
        problems = _deep_problems(options)
    if options.json:
        found = [asdict(problem) for problem in problems]
        print(json.dumps({"store": options.store, "good": not problems, "problems": found}))
    else:
        lines = [f"{problem.key}: {problem.cause}" for problem in problems]
        print("\n".join(map(printable, lines or _all_clear(options))))
    if problems:
        last = f"logitbank verify: error: {options.store} has {advice(problems)}"
        print(printable(last), file=sys.stderr)
    return 1 if problems else 0


def advice(problems: list[Problem]) -> str:
    """Return how many problems a store has, and what mends each kind of them.

    >>> advice([Problem("notes.txt", "is a file that is not part of the store", "delete")])
    '1 bad or stray file: delete it yourself, no job does'
    """
    kinds = Counter((problem.remedy, problem.parent or "it") for problem in problems)
    actions = []
    for (remedy, whose), count in sorted(kinds.items(), key=lambda kind: ORDER.index(kind[0][0])):
        which = f"{count:,} of them"
        if len(kinds) == 1:
            which = "it" if count == 1 else "them"
        if remedy == "rerun":
            actions.append(f"run the job that made {whose} again to mend {which}")
        elif remedy == "delete":
            actions.append(f"delete {which} yourself, no job does")
        else:
            actions.append(f"running a job again does not mend {which}")
    noun = "file" if len(problems) == 1 else "files"
    return f"{len(problems):,} bad or stray {noun}: {'; '.join(actions)}"


def _all_clear(options: argparse.Namespace) -> list[str]:
    lines = [f"{options.store}: every chunk, table and document is as it was sealed"]
    if options.deep:
        lines.append(f"{options.store}: {options.dataset} has the same samples, views and pixels")
    if options.teacher:
        lines.append(
            f"{options.store}: {options.teacher} gives the same logits on a batch of each unit"
        )
    return lines


def _deep_problems(options: argparse.Namespace) -> list[Problem]:
    from logitbank.jobs.command_line.opening import open_device, open_model
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
