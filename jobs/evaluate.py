"""`logitbank evaluate`: measure the accuracy of a model on centre crops."""

from __future__ import annotations

import argparse
import json

from logitbank.jobs.command_line.arguments import (
    add_dataset_arguments,
    add_precision_arguments,
    positive,
    threads,
)
from logitbank.jobs.command_line.opening import open_device, open_model, open_samples
from logitbank.jobs.command_line.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments."""
    add_dataset_arguments(parser, split="test")
    parser.add_argument("--model", required=True, metavar="SPEC", help="a model with weights")
    parser.add_argument("--batch-size", type=positive, default=256, help="images per forward pass")
    parser.add_argument("--workers", type=threads, default=2, help="threads that render images")
    add_precision_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> None:
    """Measure top-1 and top-5 and print them."""
    from logitbank.pipeline.evaluate import evaluate

    dataset = open_samples(
        options.dataset, options.split, limit=options.limit, download=options.download
    )
    model = open_model(options.model, dataset, pretrained=True)
    found = evaluate(
        model,
        dataset,
        batch_size=options.batch_size,
        device=open_device(options.device),
        workers=options.workers,
        amp=options.amp,
        tf32=options.tf32,
        channels_last=options.channels_last,
        progress=Progress("evaluate", "image"),
    )
    if options.json:
        print(json.dumps({"model": options.model, "split": dataset.split, **vars(found)}))
        return
    print(
        f"{options.model}: top-1 {found.top1:.2f}%, top-5 {found.top5:.2f}% on centre crops of "
        f"{found.samples:,} {dataset.name} {dataset.split} samples"
    )
