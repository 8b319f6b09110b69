"""`logitbank train`: train a student from a store, from labels, or with the teacher in the loop."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from logitbank.jobs.opening import open_model
from logitbank.jobs.train_arguments import (
    RunProgress,
    add_run_arguments,
    evaluation_split,
    result_line,
    train_config,
)
from logitbank.stores.errors import UsageError

if TYPE_CHECKING:
    from logitbank.pipeline.soft_labels import SoftLabels
    from logitbank.pipeline.student import TrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments."""
    add_run_arguments(parser)
    parser.add_argument("--student", required=True, metavar="SPEC", help="the model to train")
    parser.add_argument(
        "--soft-labels", nargs="+", default=[], metavar="STORE", help="raw or corrected"
    )
    parser.add_argument("--correction", metavar="NAME", help="correct a raw store while reading")
    parser.add_argument("--teacher", metavar="SPEC", help="run this teacher in the loop instead")
    parser.add_argument("--loss", help="ce or kd (kd where there is something to distil)")
    parser.add_argument("--temperature", type=float, help="of the loss (as published)")
    parser.add_argument("--ce-weight", type=float, help="of the labels (as published)")
    parser.add_argument("--kd-weight", type=float, help="of the soft labels (as published)")
    parser.add_argument("--verify-pixels", default="all", help="all, sample or off")


def run(options: argparse.Namespace) -> None:
    """Train, or go on with a run that was stopped."""
    from logitbank.pipeline.datasets import open_dataset
    from logitbank.pipeline.student import train

    config = train_config(options)
    soft = _soft_labels(options)
    split = "train" if soft is None else soft.manifest.dataset.split
    dataset = open_dataset(options.dataset, split, download=options.download)
    teacher = None
    if options.teacher is not None:
        teacher = open_model(options.teacher, dataset, pretrained=True)
    if options.dry_run:
        print("\n".join(_plan(config, len(dataset), soft)))
        return
    result = train(
        config,
        dataset,
        out=Path(options.out),
        soft_labels=soft,
        teacher=teacher,
        eval_dataset=evaluation_split(options, split),
        progress=RunProgress("train"),
    )
    print(result_line(result))


def _soft_labels(options: argparse.Namespace) -> SoftLabels | None:
    from logitbank.pipeline.soft_labels import SoftLabels

    if len(options.soft_labels) > 1:
        raise UsageError(
            f"--soft-labels takes one store for the losses that there are, not "
            f"{len(options.soft_labels)}"
        )
    if options.soft_labels:
        return SoftLabels.open(options.soft_labels[0], correction=options.correction)
    if options.correction is not None:
        raise UsageError("--correction needs --soft-labels STORE")
    return None


def _plan(config: TrainConfig, samples: int, soft: SoftLabels | None) -> list[str]:
    samples = min(config.limit or samples, samples)
    passes = config.epochs * samples
    lines = [
        f"  {config.student} on {samples:,} samples for {config.epochs:,} epochs of "
        f"{-(-samples // config.batch_size):,} steps",
    ]
    if soft is not None and config.teacher is None:
        lines.append(f"  {passes:,} teacher forward passes are saved: {soft.store.where} has them")
    if config.teacher is not None:
        lines.append(f"  {passes:,} teacher forward passes of {config.teacher} in the loop")
    return lines
