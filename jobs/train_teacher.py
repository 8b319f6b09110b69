"""`logitbank train-teacher`: train a teacher from labels."""

from __future__ import annotations

import argparse
from pathlib import Path

from logitbank.jobs.command_line.train_arguments import (
    RunProgress,
    add_run_arguments,
    evaluation_split,
    given_fields,
    result_line,
    train_config,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments."""
    add_run_arguments(parser, of_teacher=True)
    parser.add_argument("--model", required=True, metavar="SPEC", help="the model to train")


def run(options: argparse.Namespace) -> None:
    """Train, or resume a run that was stopped."""
    from logitbank.pipeline.datasets import open_dataset
    from logitbank.pipeline.student import (
        RunFolder,
        require_run_folder,
        resolved_config,
        train,
        with_published_run,
    )

    config = train_config(options, student=options.model, loss="ce")
    require_run_folder(Path(options.out))
    dataset = open_dataset(options.dataset, "train", download=options.download)
    config, line = with_published_run(config, dataset, given_fields(options))
    if line is not None:
        print(f"  {line}")
    if options.dry_run:
        trained = config.trained_samples(len(dataset))
        RunFolder.find(Path(options.out), resolved_config(config, dataset, (), None))
        print(f"  {config.student} on {len(trained):,} samples for {config.epochs:,} epochs")
        return
    result = train(
        config,
        dataset,
        out=Path(options.out),
        eval_dataset=evaluation_split(options, "train"),
        progress=RunProgress("train-teacher"),
    )
    print(result_line(result))
