"""What `train` and `train-teacher` share: the arguments of a training run, and its progress."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from logitbank.jobs.command_line.arguments import DATASET_HELP, MAX_COUNT, finite, whole
from logitbank.jobs.command_line.paths import location, out_path
from logitbank.jobs.command_line.progress import Progress

if TYPE_CHECKING:
    from logitbank.pipeline.bounds import FieldKind
    from logitbank.pipeline.datasets import ImageDataset
    from logitbank.pipeline.student import Progress as TrainProgress
    from logitbank.pipeline.student import TrainConfig, TrainResult


_LOCATIONS = frozenset({"soft_labels"})


def add_run_arguments(parser: argparse.ArgumentParser, *, of_teacher: bool = False) -> None:
    """Declare the arguments of a training run, in timm's spelling.

    Most are fields of `TrainConfig`, whose metadata holds their help, bounds and defaults.

    Args:
        parser: the job's.
        of_teacher: whether the job trains a teacher from labels, without arguments of distillation.
    """
    from logitbank.pipeline.bounds import field_kinds
    from logitbank.pipeline.student.config import TrainConfig

    parser.add_argument("--dataset", required=True, metavar="SPEC", help=DATASET_HELP)
    parser.add_argument("--download", action="store_true", help="download cifar100 by torchvision")
    kinds = field_kinds(TrainConfig)
    for field in dataclasses.fields(TrainConfig):
        if field.metadata and not (of_teacher and field.metadata["train_alone"]):
            _add_flag(parser, field, kinds[field.name])
    parser.add_argument(
        "--out", type=out_path, required=True, metavar="RUN", help="the run's folder"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan, write nothing")


def _add_flag(
    parser: argparse.ArgumentParser, field: dataclasses.Field[Any], kind: FieldKind
) -> None:
    """Declare the flag of a field of the configuration."""
    name, declared = f"--{field.name.replace('_', '-')}", field.metadata
    text, metavar = declared["help"], declared["metavar"]
    if kind.type is bool:
        parser.add_argument(name, action="store_true", help=text)
        return
    options: dict[str, Any] = {"type": _parser_of(field.name, kind), "metavar": metavar}
    if kind.many:
        options["nargs"] = "+" if field.default == () else "*"
    if declared["const"] is not None:
        options |= {"nargs": "?", "const": declared["const"]}
    if field.default is dataclasses.MISSING:
        options["required"] = True
    elif declared["published"]:
        text = f"{text} (as published for the dataset)"
        options["default"] = argparse.SUPPRESS
    else:
        options["default"] = [] if field.default == () else field.default
    parser.add_argument(name, help=text, **options)


def _parser_of(name: str, kind: FieldKind) -> Callable[[str], Any]:
    if name in _LOCATIONS:
        return location
    if kind.type is int:
        most = MAX_COUNT if kind.most is None else kind.most
        return partial(whole, least=kind.least or 0, most=most)
    return finite if kind.type is float else str


def train_config(options: argparse.Namespace, **changes: Any) -> TrainConfig:
    """Build the configuration that the arguments describe.

    Raises:
        UsageError: a value is invalid.
    """
    from logitbank.pipeline.student import TrainConfig

    return TrainConfig(**given_fields(options) | changes)


def given_fields(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of a run's configuration that the arguments set, by name."""
    from logitbank.pipeline.student import TrainConfig

    names = {field.name for field in dataclasses.fields(TrainConfig)}
    return {name: value for name, value in vars(options).items() if name in names}


def evaluation_split(options: argparse.Namespace, training_split: str) -> ImageDataset | None:
    """Open the test split of `--eval-dataset`, else of the dataset itself.

    Returns:
        The split; None if there is none, or if the run trains on it.
    """
    from logitbank.pipeline.datasets import has_split, open_dataset

    if options.eval_dataset is not None:
        return open_dataset(options.eval_dataset, "test")
    if training_split == "train" and has_split(options.dataset, "test"):
        return open_dataset(options.dataset, "test")
    return None


class RunProgress:
    """Shows a training run: a progress bar of its images, and a line for each epoch."""

    def __init__(self, title: str) -> None:
        self._bar = Progress(title, "image")

    def __call__(self, progress: TrainProgress) -> None:
        """Show a step, or the metrics at the end of an epoch."""
        epoch, epochs, images = progress.epoch, progress.epochs, progress.images
        if progress.metrics is None:
            seen = epoch * images + images * progress.step // progress.steps
            self._bar(seen, epochs * images)
            return
        self._bar.line(f"epoch {epoch + 1} of {epochs}: {_accuracy(progress.metrics)}")


def result_line(result: TrainResult) -> str:
    """Return a line on a finished run: its last epoch, and the best one, which papers report."""
    last, best = result.last, result.best
    line = f"{result.out}: last epoch {_accuracy(last)}; best is epoch {best['epoch'] + 1}"
    if best["top1"] is not None:
        line += f" with top-1 {best['top1']:.2f}% (what papers report)"
    return line if result.has_best else f"{line}, whose weights are lost: there is no best.pt"


def _accuracy(metrics: dict[str, Any]) -> str:
    loss = f"loss {metrics['loss']:.4f}"
    return loss if metrics["top1"] is None else f"{loss}, top-1 {metrics['top1']:.2f}%"
