"""What `train` and `train-teacher` share: the arguments of a training run, and how it is shown."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from logitbank.jobs.arguments import (
    DATASET_HELP,
    finite,
    non_negative,
    positive,
    seed,
    threads,
    threads_or_none,
)
from logitbank.jobs.paths import out_path
from logitbank.jobs.progress import Progress

if TYPE_CHECKING:
    from logitbank.pipeline.datasets import ImageDataset
    from logitbank.pipeline.student import Progress as TrainProgress
    from logitbank.pipeline.student import TrainConfig, TrainResult


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of any training run, in timm's spelling."""
    parser.add_argument("--dataset", required=True, metavar="SPEC", help=DATASET_HELP)
    parser.add_argument("--eval-dataset", metavar="SPEC", help="its test split is evaluated on")
    parser.add_argument("--download", action="store_true", help="fetch cifar100 by torchvision")
    parser.add_argument("--limit", type=positive, metavar="N", help="the first N samples alone")
    parser.add_argument(
        "--skip", type=non_negative, default=0, metavar="N", help="leave the first N samples out"
    )
    parser.add_argument("--epochs", type=positive, default=240)
    parser.add_argument("--batch-size", type=positive, default=64)
    parser.add_argument(
        "--grad-accum-steps", type=positive, default=1, metavar="N", help="batches of a step"
    )
    parser.add_argument("--lr", type=finite, default=0.05, help="learning rate")
    parser.add_argument("--momentum", type=finite, default=0.9)
    parser.add_argument("--weight-decay", type=finite, default=5e-4)
    parser.add_argument("--sched", default="step", help="step or cosine, by the epoch")
    parser.add_argument(
        "--warmup-epochs", type=non_negative, default=0, metavar="N", help="of a rising rate"
    )
    parser.add_argument(
        "--milestones",
        type=non_negative,
        nargs="*",
        metavar="EPOCH",
        help="epochs, from 0, that begin with a tenth of the rate (as published, scaled)",
    )
    parser.add_argument(
        "--model-ema", action="store_true", help="average the weights as well, into ema.pt"
    )
    parser.add_argument(
        "--model-ema-decay", type=finite, default=0.9998, metavar="D", help="of that average"
    )
    parser.add_argument("--seed", type=seed, default=0, help="of weights, order and views")
    parser.add_argument("--device", help="cpu or cuda[:N] (CUDA where there is one)")
    parser.add_argument("--threads", type=threads, help="torch's own on the CPU")
    parser.add_argument(
        "--workers", type=threads_or_none, default=2, help="that render image files"
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision, on CUDA")
    parser.add_argument("--channels-last", action="store_true", help="that memory format")
    parser.add_argument(
        "--torchcompile",
        nargs="?",
        const="inductor",
        metavar="BACKEND",
        help="compile the network by torch.compile (inductor where no backend is named)",
    )
    parser.add_argument(
        "--out", type=out_path, required=True, metavar="RUN", help="the run's folder"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan, write nothing")


def train_config(options: argparse.Namespace, **changes: Any) -> TrainConfig:
    """Build the configuration that the arguments describe.

    Raises:
        UsageError: a value that can't be meant.
    """
    from logitbank.pipeline.student import TrainConfig

    names = {field.name for field in dataclasses.fields(TrainConfig)}
    given = {name: value for name, value in vars(options).items() if name in names} | changes
    lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    return TrainConfig(**(given | lists))


def evaluation_split(options: argparse.Namespace, training_split: str) -> ImageDataset | None:
    """Open the split that is evaluated on: of `--eval-dataset`, else the dataset's own test split.

    None where there is none, or where it is what the run trains on.
    """
    from logitbank.pipeline.datasets import has_split, open_dataset

    if options.eval_dataset is not None:
        return open_dataset(options.eval_dataset, "test")
    if training_split == "train" and has_split(options.dataset, "test"):
        return open_dataset(options.dataset, "test")
    return None


class RunProgress:
    """Shows a training run: a bar of its images, and a line an epoch."""

    def __init__(self, title: str) -> None:
        self._bar = Progress(title, "image")

    def __call__(self, where: TrainProgress) -> None:
        """Show a step, or the metrics at the end of an epoch."""
        if where.metrics is None:
            seen = where.epoch * where.images + where.images * where.step // where.steps
            self._bar(seen, where.epochs * where.images)
            return
        self._bar.line(f"epoch {where.epoch + 1} of {where.epochs}: {_accuracy(where.metrics)}")


def result_line(result: TrainResult) -> str:
    """Sum a finished run up: top-1 of the last epoch, and of the best, which papers report."""
    last, best = result.last, result.best
    line = f"{result.out}: last epoch {_accuracy(last)}; best is epoch {best['epoch'] + 1}"
    if best["top1"] is not None:
        line += f" with top-1 {best['top1']:.2f}% (what papers report)"
    return line if result.has_best else f"{line}, whose weights are lost: there is no best.pt"


def _accuracy(metrics: dict[str, Any]) -> str:
    loss = f"loss {metrics['loss']:.4f}"
    return loss if metrics["top1"] is None else f"{loss}, top-1 {metrics['top1']:.2f}%"
