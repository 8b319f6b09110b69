"""`logitbank train`: train a student from a store, from labels, or with the teacher in the loop."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitbank.jobs.command_line.opening import (
    PARENT_HELP,
    add_allowance_argument,
    open_model,
    parents_of,
)
from logitbank.jobs.command_line.paths import location
from logitbank.jobs.command_line.train_arguments import (
    RunProgress,
    add_run_arguments,
    evaluation_split,
    given_fields,
    result_line,
    train_config,
)
from logitbank.stores.errors import UsageError

if TYPE_CHECKING:
    from logitbank.pipeline.datasets import ImageDataset
    from logitbank.pipeline.models import LoadedModel
    from logitbank.pipeline.soft_labels import SoftLabels
    from logitbank.pipeline.student import TrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments."""
    add_run_arguments(parser)
    parser.add_argument(
        "--parent",
        type=location,
        nargs="+",
        metavar="STORE",
        help=f"{PARENT_HELP}; for two such stores, one each in their order",
    )
    add_allowance_argument(parser)
    parser.add_argument(
        "--loss-setting",
        type=loss_setting,
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="settings of the loss, such as beta=6 or temperatures=1,2,3 (as published)",
    )


def run(options: argparse.Namespace) -> None:
    """Train, or resume a run that was stopped."""
    from logitbank.pipeline.datasets import open_dataset
    from logitbank.pipeline.student import require_run_folder, train, with_published_run

    config = train_config(options, loss_settings=dict(options.loss_setting))
    require_run_folder(Path(options.out))
    _require_own_loss(options.loss)
    stores = _soft_labels(options)
    split = stores[0].manifest.dataset.split if stores else "train"
    dataset = open_dataset(options.dataset, split, download=options.download)
    config, line = with_published_run(config, dataset, given_fields(options))
    teacher = None
    if options.teacher is not None:
        teacher = open_model(options.teacher, dataset, pretrained=True)
    if line is not None:
        print(f"  {line}")
    if options.dry_run:
        _print_plan(config, Path(options.out), dataset, stores, teacher)
        return
    result = train(
        config,
        dataset,
        out=Path(options.out),
        soft_labels=stores,
        teacher=teacher,
        eval_dataset=evaluation_split(options, split),
        progress=RunProgress("train"),
    )
    print(result_line(result))


def loss_setting(text: str) -> tuple[str, Any]:
    """Parse a setting of a loss; a value with a comma is a list, even with only a trailing comma.

    >>> loss_setting("beta=6"), loss_setting("temperatures=1,2"), loss_setting("temperatures=4,")
    (('beta', '6'), ('temperatures', ('1', '2')), ('temperatures', ('4',)))
    """
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE, such as beta=6")
    if "," in value:
        return name, tuple(filter(None, value.split(",")))
    return name, value


def _soft_labels(options: argparse.Namespace) -> tuple[SoftLabels, ...]:
    from logitbank.pipeline.soft_labels import SoftLabels

    locations, allowed = options.soft_labels, options.allow_correction
    if len(locations) > 2:
        raise UsageError(
            f"--soft-labels takes one store, or one of weak and one of strong views, not "
            f"{len(locations)}"
        )
    parents = parents_of(locations, options.parent)
    if len(locations) == 2:
        weak, strong = locations
        return SoftLabels.open_pair(
            weak, strong, options.correction, parents=parents, allow_corrections=allowed
        )
    if locations:
        return (
            SoftLabels.open(
                locations[0], options.correction, parent=parents[0], allow_corrections=allowed
            ),
        )
    if options.correction is not None:
        raise UsageError("--correction needs --soft-labels STORE")
    return ()


def _require_own_loss(name: str | None) -> None:
    """Check the name of the loss, importing a user's own, before anything is opened."""
    from logitbank.pipeline.losses import loss_class

    if name is not None:
        loss_class(name)


def _print_plan(
    config: TrainConfig,
    out: Path,
    dataset: ImageDataset,
    stores: tuple[SoftLabels, ...],
    teacher: LoadedModel | None,
) -> None:
    from logitbank.pipeline.student import RunFolder, chunks_ahead, resolved_config

    config = resolved_config(config, dataset, stores, teacher)
    RunFolder.find(out, config)
    chunks = chunks_ahead(config, out, stores, teacher)
    print("\n".join(_plan(config, len(dataset), stores, chunks)))


def _plan(
    config: TrainConfig, samples: int, stores: tuple[SoftLabels, ...], chunks: int
) -> list[str]:
    from logitbank.pipeline.student import loss_of

    samples = len(config.trained_samples(samples))
    loss = loss_of(config)
    passes = config.epochs * samples * loss.views
    settings = ", ".join(f"{name} {value}" for name, value in vars(loss).items())
    lines = [
        f"  {config.student} on {samples:,} samples for {config.epochs:,} epochs of "
        f"{-(-samples // config.batch_size):,} steps",
        f"  loss {config.loss}: {settings}",
    ]
    if stores and config.teacher is None:
        where = " and ".join(soft.store.where for soft in stores)
        have = "have" if len(stores) > 1 else "has"
        lines.append(f"  {passes:,} teacher forward passes are saved: {where} {have} them")
    if stores:
        lines.append(f"  {chunks:,} chunks that it will read exist and have the right size")
    if config.teacher is not None:
        lines.append(f"  {passes:,} forward passes of {config.teacher}, the teacher in the loop")
    return [*lines, "", config.to_yaml().rstrip()]
