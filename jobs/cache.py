"""`logitbank cache`: run a teacher over views of a dataset and keep its logits in a store."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from logitbank.jobs.arguments import (
    add_dataset_arguments,
    add_precision_arguments,
    non_negative,
    percent,
    positive,
)
from logitbank.jobs.opening import open_device, open_model, open_samples
from logitbank.jobs.plan import require_room, store_bytes, store_plan
from logitbank.jobs.progress import Progress

if TYPE_CHECKING:
    from logitbank.pipeline.datasets import ImageDataset
    from logitbank.pipeline.models import LoadedModel
    from logitbank.pipeline.teacher import CacheSettings
    from logitbank.pipeline.views import Augmentation
    from logitbank.stores.manifest import Manifest, Measured

TRIAL_SAMPLES = 1_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments."""
    add_dataset_arguments(parser)
    parser.add_argument("--teacher", required=True, metavar="SPEC", help="a model with weights")
    parser.add_argument("--augmentation", required=True, help="NAME or NAME:parameter=value,...")
    parser.add_argument("--views", required=True, metavar="V|all", help="views of each image")
    parser.add_argument("--seed", type=non_negative, default=0, help="of the views")
    parser.add_argument("--encoding", default="float16", help="float32 or float16")
    parser.add_argument("--expect-top1", type=percent, help="the teacher's known accuracy, percent")
    parser.add_argument("--out", required=True, metavar="STORE", help="the store to make")
    parser.add_argument("--batch-size", type=positive, default=256, help="of a forward pass")
    parser.add_argument("--block-rows", type=positive, help="rows of a chunk (about 32 MiB)")
    parser.add_argument("--workers", type=positive, default=2, help="threads that render images")
    add_precision_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan, write nothing")


def run(options: argparse.Namespace) -> None:
    """Compute what is lacking and seal the store."""
    from logitbank.pipeline.teacher import cache_views, raw_manifest
    from logitbank.pipeline.views import parse_augmentation
    from logitbank.stores.writer import StoreWriter, unit_rows

    dataset = open_samples(options)
    teacher = open_model(options.teacher, dataset, pretrained=True)
    augmentation = parse_augmentation(options.augmentation, size=teacher.input_size)
    settings = _settings(options, augmentation)
    wanted = raw_manifest(dataset, teacher, augmentation, settings)
    if options.dry_run:
        print("\n".join([*store_plan(options.out, wanted), *_break_even(wanted)]))
        return
    require_room(Path(options.out), store_bytes(wanted))
    if not Path(options.out).exists():
        wanted = dataclasses.replace(wanted, measured=_checked(options, teacher, dataset, settings))
    writer = StoreWriter.open(options.out, wanted, dataset.targets, dataset.sample_ids)
    if writer.complete:
        print(f"{options.out} is complete: every chunk was checked, nothing is lacking")
        return
    for key in writer.mended:
        print(f"{options.out}: {key} was bad or stale; mending it")
    if writer.manifest.measured.clean_top1 is None:
        writer.record(_checked(options, teacher, dataset, settings))
    passes = unit_rows(writer.lacking, wanted)
    sealed = cache_views(
        dataset, teacher, augmentation, settings, writer, Progress("cache", "view")
    )
    print(
        f"{options.out}: {passes:,} teacher forward passes in this run; top-1 on these views "
        f"{sealed.measured.top1:.2f}%; digest {sealed.digest}"
    )


def _settings(options: argparse.Namespace, augmentation: Augmentation) -> CacheSettings:
    from logitbank.pipeline.teacher import CacheSettings, Precision
    from logitbank.pipeline.views import parse_views

    return CacheSettings(
        views=parse_views(augmentation, options.views),
        seed=options.seed,
        encoding=options.encoding,
        batch_size=options.batch_size,
        block_rows=options.block_rows or _rows_there(options.out),
        device=open_device(options.device),
        precision=Precision(options.amp, options.tf32, options.channels_last),
        workers=options.workers,
    )


def _rows_there(location: str) -> int | None:
    """Give the rows of a chunk of the store that is there already, if one is."""
    from logitbank.stores.documents import read_manifest
    from logitbank.stores.errors import StoreError
    from logitbank.stores.files import LocalFiles

    try:
        manifest = read_manifest(LocalFiles(location))
    except StoreError:
        return None
    was_edited = manifest.status == "complete" and manifest.seal != manifest.seal_value()
    return None if was_edited else manifest.rows_per_chunk


def _checked(
    options: argparse.Namespace,
    teacher: LoadedModel,
    dataset: ImageDataset,
    settings: CacheSettings,
) -> Measured:
    """Measure the teacher on centre crops before the first block: a badly fed one is found here."""
    from logitbank.pipeline.datasets import has_split, open_dataset
    from logitbank.pipeline.teacher import clean_accuracy, require_expected_top1

    clean = open_dataset(options.dataset, "test") if has_split(options.dataset, "test") else dataset
    # A trial on a few samples should not wait for the whole of ImageNet's evaluation split.
    most = None if options.limit is None else max(options.limit, TRIAL_SAMPLES)
    measured = clean_accuracy(teacher, clean, settings, most)
    print(
        f"{options.teacher}: top-1 {measured.clean_top1:.2f}%, top-5 {measured.clean_top5:.2f}% on "
        f"centre crops of {measured.clean_samples:,} {measured.clean_split} samples"
    )
    expected = options.expect_top1 or teacher.expected_top1
    if expected is not None:
        require_expected_top1(options.teacher, measured, expected)
    return measured


def _break_even(manifest: Manifest) -> list[str]:
    """Say what the store costs in teacher passes, and when it has paid."""
    samples, views = manifest.dataset.samples, manifest.views
    return [
        f"  {samples * views:,} teacher forward passes, once; a teacher in the loop spends "
        f"{samples:,} an epoch",
        f"  pays from epoch {views + 1} on, counted over all students and seeds that share it",
    ]
