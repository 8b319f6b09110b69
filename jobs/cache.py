"""`logitbank cache`: run a teacher over views of a dataset and store its logits."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from logitbank.jobs.cluster.spec import planned_device
from logitbank.jobs.command_line.arguments import (
    add_dataset_arguments,
    add_precision_arguments,
    percent,
    positive,
    seed,
    threads,
    view_count,
)
from logitbank.jobs.command_line.opening import open_device, open_model, open_samples
from logitbank.jobs.command_line.paths import out_path
from logitbank.jobs.command_line.plan import require_store_place
from logitbank.jobs.command_line.stopping import StopSignals, until_stopped
from logitbank.jobs.fill.processes import run_on_devices
from logitbank.jobs.fill.sharing import Sharing, add_sharing_arguments
from logitbank.jobs.fill.store import make_store, planned_lines
from logitbank.stores.encodings import DEFAULT_ENCODING, ENCODINGS
from logitbank.stores.files import Files, open_files

if TYPE_CHECKING:
    from logitbank.pipeline.models import LoadedModel
    from logitbank.pipeline.teacher import TeacherTask
    from logitbank.stores.manifest import Manifest, Measured

ACCEPT_HELP = (
    "accept a teacher that would be refused: probabilities (its outputs are probabilities or their "
    "logarithms, not logits), class-order (its classes are not in the dataset's order)"
)
AUGMENTATION_HELP = "NAME, NAME+mixup or NAME+cutmix, then :parameter=value,... to change defaults"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments."""
    add_dataset_arguments(parser)
    parser.add_argument("--teacher", required=True, metavar="SPEC", help="a model with weights")
    parser.add_argument("--augmentation", required=True, help=AUGMENTATION_HELP)
    parser.add_argument(
        "--views", type=view_count, required=True, metavar="V|all", help="views per image"
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of the views")
    parser.add_argument(
        "--encoding",
        default=DEFAULT_ENCODING,
        metavar="NAME[:parameter=value,...]",
        help=f"how logits are stored: {' or '.join(ENCODINGS)}",
    )
    parser.add_argument(
        "--expect-top1", type=percent, help="the teacher's known accuracy in percent"
    )
    parser.add_argument("--accept", nargs="+", default=[], metavar="NAME", help=ACCEPT_HELP)
    parser.add_argument(
        "--out", type=out_path, required=True, metavar="STORE", help="the store to make"
    )
    parser.add_argument("--batch-size", type=positive, default=256, help="images per forward pass")
    parser.add_argument("--block-rows", type=positive, help="rows per chunk (about 32 MiB)")
    parser.add_argument("--workers", type=threads, default=2, help="threads that render images")
    add_precision_arguments(parser)
    add_sharing_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan, write nothing")


def run(options: argparse.Namespace) -> int:
    """Compute the missing units and seal the store."""
    sharing = Sharing.parse(
        part=options.part,
        devices=options.devices,
        cluster=options.cluster,
        report=options.performance_report,
    )
    if sharing.devices and not options.dry_run:
        return run_on_devices("cache", options.argv, sharing.devices, sharing.part)
    return until_stopped("cache", lambda stop: _make_store(options, sharing, stop))


def _make_store(options: argparse.Namespace, sharing: Sharing, stop: StopSignals) -> None:
    files = open_files(options.out)
    require_store_place(files)
    task, teacher = _task(options, sharing, files)
    if options.dry_run:
        print("\n".join([*planned_lines(task, files, sharing.part), *_break_even(task.manifest)]))
        return
    filled = make_store(
        task.probed(),
        files,
        sharing,
        stop,
        job="cache",
        rows="view",
        cluster_device=None
        if sharing.cluster is None
        else planned_device(sharing.cluster, options.device),
        on_checked=partial(
            _show_accuracy, options.teacher, options.expect_top1 or teacher.required_top1
        ),
    )
    if filled is not None:
        print(
            f"{options.out}: {filled.rows:,} teacher forward passes in this run; top-1 on these "
            f"views {filled.manifest.measured.top1:.2f}%; digest {filled.manifest.digest}"
        )


def _task(
    options: argparse.Namespace, sharing: Sharing, files: Files
) -> tuple[TeacherTask, LoadedModel]:
    """Return the task that the arguments describe, and its teacher."""
    from logitbank.pipeline.teacher import CacheSettings, Precision, TeacherTask
    from logitbank.pipeline.views import parse_augmentation, parse_views

    dataset = open_samples(
        options.dataset, options.split, limit=options.limit, download=options.download
    )
    teacher = open_model(options.teacher, dataset, pretrained=True)
    augmentation = parse_augmentation(
        options.augmentation, size=teacher.input_size, samples=len(dataset)
    )
    is_shared = sharing.cluster is not None
    settings = CacheSettings(
        views=parse_views(augmentation, options.views),
        seed=options.seed,
        encoding=options.encoding,
        batch_size=options.batch_size,
        block_rows=options.block_rows or _existing_chunk_rows(files),
        # A cluster's workers choose their own device.
        device="cpu" if is_shared else open_device(options.device),
        precision=Precision(options.amp, options.tf32, options.channels_last),
        workers=options.workers,
        accept=tuple(options.accept),
    )
    task = TeacherTask.of(
        dataset,
        teacher,
        augmentation,
        settings,
        options.out,
        dataset_spec=options.dataset,
        split=options.split,
        limit=options.limit,
        computed_on="a cluster" if is_shared else None,
    )
    return task, teacher


def _show_accuracy(teacher: str, expected: float | None, measured: Measured) -> None:
    """Print a teacher's measured accuracy before the first block, and compare it with `expected`.

    Raises:
        LogitbankError: it is not near the expected accuracy.
    """
    from logitbank.pipeline.teacher import require_expected_top1

    print(
        f"{teacher}: top-1 {measured.clean_top1:.2f}%, top-5 "
        f"{measured.clean_top5:.2f}% on centre crops of {measured.clean_samples:,} "
        f"{measured.clean_split} samples"
    )
    if expected is not None:
        require_expected_top1(teacher, measured, expected)


def _existing_chunk_rows(files: Files) -> int | None:
    """Return the rows per chunk of an existing store, None if there is none."""
    from logitbank.stores.documents import read_manifest
    from logitbank.stores.errors import StoreError

    try:
        manifest = read_manifest(files)
    except StoreError:
        return None
    was_edited = manifest.status == "complete" and manifest.seal != manifest.seal_value()
    return None if was_edited else manifest.rows_per_chunk


def _break_even(manifest: Manifest) -> list[str]:
    """Return lines on what the store costs in teacher passes, and when it pays off."""
    samples, views = manifest.dataset.samples, manifest.views
    return [
        f"  {samples * views:,} teacher forward passes, once; a teacher in the loop takes "
        f"{samples:,} per epoch",
        f"  pays off from epoch {views + 1} on, counted over all students and seeds that share it",
    ]
