"""`logitbank cache`: run a teacher over views of a dataset and keep its logits in a store."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from logitbank.jobs.arguments import (
    add_dataset_arguments,
    add_precision_arguments,
    percent,
    positive,
    seed,
    threads,
    view_count,
)
from logitbank.jobs.cluster.where import add_cluster_arguments, check_cluster_arguments
from logitbank.jobs.device_processes import add_devices_argument, run_on_devices
from logitbank.jobs.opening import open_device, open_model, open_samples
from logitbank.jobs.parts import add_part_argument, chosen_part, seal_when_whole
from logitbank.jobs.paths import out_path
from logitbank.jobs.plan import require_room, require_store_place, store_bytes, store_plan
from logitbank.jobs.progress import Progress
from logitbank.jobs.stopping import StopSignals, until_stopped
from logitbank.stores.encodings import ENCODINGS

if TYPE_CHECKING:
    from logitbank.jobs.cluster.stages import TeacherOnCluster
    from logitbank.jobs.parts import Part
    from logitbank.pipeline.datasets import ImageDataset
    from logitbank.pipeline.models import LoadedModel
    from logitbank.pipeline.teacher import CacheSettings, FirstWord
    from logitbank.pipeline.views import Augmentation
    from logitbank.stores.layout import Unit
    from logitbank.stores.manifest import Manifest, Measured
    from logitbank.stores.writer import StoreWriter

TRIAL_SAMPLES = 1_000
ACCEPT_HELP = (
    "what is meant, though a teacher is refused for it: probabilities (or their logarithms) in the "
    "place of logits, class-order (another one than the dataset's)"
)
AUGMENTATION_HELP = "NAME, NAME+mixup or NAME+cutmix, with :parameter=value,... behind it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments."""
    add_dataset_arguments(parser)
    parser.add_argument("--teacher", required=True, metavar="SPEC", help="a model with weights")
    parser.add_argument("--augmentation", required=True, help=AUGMENTATION_HELP)
    parser.add_argument(
        "--views", type=view_count, required=True, metavar="V|all", help="views of each image"
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the views")
    parser.add_argument(
        "--encoding",
        default="float16",
        metavar="NAME[:parameter=value,...]",
        help=f"{' or '.join(ENCODINGS)}: how logits are kept",
    )
    parser.add_argument("--expect-top1", type=percent, help="the teacher's known accuracy, percent")
    parser.add_argument("--accept", nargs="+", default=[], metavar="NAME", help=ACCEPT_HELP)
    parser.add_argument(
        "--out", type=out_path, required=True, metavar="STORE", help="the store to make"
    )
    parser.add_argument("--batch-size", type=positive, default=256, help="of a forward pass")
    parser.add_argument("--block-rows", type=positive, help="rows of a chunk (about 32 MiB)")
    parser.add_argument("--workers", type=threads, default=2, help="threads that render images")
    add_precision_arguments(parser)
    add_cluster_arguments(parser)
    add_devices_argument(parser)
    add_part_argument(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan, write nothing")


def run(options: argparse.Namespace) -> int:
    """Compute what is lacking and seal the store."""
    check_cluster_arguments(options)
    if options.devices and not options.dry_run:
        return run_on_devices("cache", options)
    return until_stopped("cache", lambda stop: _make_store(options, stop))


def _make_store(options: argparse.Namespace, stop: StopSignals) -> None:
    from logitbank.jobs.cluster.stages import teacher_on_cluster
    from logitbank.pipeline.teacher import (
        FirstWord,
        probe_pixels,
        raw_manifest,
        teacher_probe,
        work_order,
    )
    from logitbank.pipeline.views import parse_augmentation
    from logitbank.stores.layout import all_units

    part = chosen_part(options)
    require_store_place(options.out)
    dataset = open_samples(options)
    teacher = open_model(options.teacher, dataset, pretrained=True)
    augmentation = parse_augmentation(
        options.augmentation, size=teacher.input_size, samples=len(dataset)
    )
    settings = _settings(options, augmentation)
    computed_on = None if options.cluster is None else "a cluster"
    wanted = raw_manifest(dataset, teacher, augmentation, settings, computed_on)
    share = None if part is None else part.share(work_order(all_units(wanted), dataset))
    if options.dry_run:
        print("\n".join([*store_plan(options.out, wanted, share), *_break_even(wanted)]))
        return
    require_room(options.out, store_bytes(wanted))
    pixels = probe_pixels(dataset, augmentation, settings.seed)
    first = FirstWord(pixels, teacher_probe(teacher, pixels, settings.device))
    with teacher_on_cluster(options, dataset, settings, wanted, first) as on_cluster:
        work = CacheWork(options, dataset, teacher, augmentation, settings, stop, first, on_cluster)
        _fill(work, wanted, part, share)


def _fill(work: CacheWork, wanted: Manifest, part: Part | None, share: list[Unit] | None) -> None:
    """Compute what a store lacks, or one part's share of it."""
    from logitbank.stores.creation import is_free
    from logitbank.stores.writer import StoreWriter, unit_rows

    out, dataset = work.options.out, work.dataset
    if is_free(out):
        wanted = work.measured(wanted)
    open_writer = partial(StoreWriter.open, out, wanted, dataset.targets, dataset.sample_ids)
    writer = open_writer(share)
    work.require_probe(writer.manifest)
    if writer.complete:
        whose = "" if part is None else f" of part {part}"
        print(f"{out} is complete: every chunk{whose} was checked, nothing is lacking")
        return
    for key in writer.mended:
        print(f"{out}: {key} was bad or stale; mending it")
    passes = unit_rows(writer.lacking, wanted)
    sealed: Manifest | None
    if part is None:
        sealed = work.complete(writer)
    else:
        work.compute(writer)
        sealed = seal_when_whole(out, wanted, part, open_writer, work.complete)
    if sealed is not None:
        print(
            f"{out}: {passes:,} teacher forward passes in this run; top-1 on these views "
            f"{sealed.measured.top1:.2f}%; digest {sealed.digest}"
        )


@dataclass(frozen=True)
class CacheWork:
    """All that is needed to compute what a store, or a share of it, lacks, here or on a cluster.

    `first` is what the teacher says first in this process, which has just imported it.
    """

    options: argparse.Namespace
    dataset: ImageDataset
    teacher: LoadedModel
    augmentation: Augmentation
    settings: CacheSettings
    stop: StopSignals
    first: FirstWord
    on_cluster: TeacherOnCluster | None = None

    def require_probe(self, manifest: Manifest) -> None:
        """Require the teacher to say what the one that began the store said.

        Raises:
            LogitbankError, StoreError: it doesn't; the cause is named, and both figures.
        """
        from logitbank.pipeline.teacher import require_same_teacher

        recorded = manifest.measured.probe
        if recorded is not None:
            require_same_teacher(
                self.first.probe,
                recorded,
                self.teacher,
                self.first.pixels,
                self.settings,
                self.options.out,
            )

    def measured(self, manifest: Manifest) -> Manifest:
        """Give a manifest with what has to be known before the store is made.

        Raises:
            LogitbankError: the teacher is worse than it should be, or not what one must be.
        """
        manifest = dataclasses.replace(manifest, measured=_checked(self))
        return manifest if self.on_cluster is None else self.on_cluster.described(manifest)

    def compute(self, writer: StoreWriter) -> None:
        """Compute what is lacking; here less, where a signal asks for an end."""
        from logitbank.pipeline.teacher import compute_lacking

        if self.on_cluster is not None:
            self.on_cluster.compute(writer, Progress("cache", "chunk"))
            return
        with self.stop.blocks_in_hand() as stopped:
            compute_lacking(
                self.dataset,
                self.teacher,
                self.augmentation,
                self.settings,
                writer,
                Progress("cache", "view"),
                stopped,
            )

    def complete(self, writer: StoreWriter) -> Manifest:
        """Compute all that is lacking in a store, and seal it."""
        from logitbank.pipeline.teacher import seal_raw

        measured = writer.manifest.measured
        if measured.clean_top1 is None or measured.probe is None:
            writer.record(_checked(self))
        self.compute(writer)
        return seal_raw(writer, self.augmentation)


def _checked(work: CacheWork) -> Measured:
    """Try the teacher before the first block: what is none, or is badly fed, is found here."""
    from logitbank.pipeline.datasets import has_split, open_dataset
    from logitbank.pipeline.teacher import (
        clean_accuracy,
        require_expected_top1,
        require_sound_teacher,
    )

    options = work.options
    # A trial on a few samples should not wait for the whole of ImageNet's evaluation split.
    most = None if options.limit is None else max(options.limit, TRIAL_SAMPLES)
    if work.on_cluster is not None:
        measured = work.on_cluster.clean_accuracy(most)
    else:
        require_sound_teacher(work.teacher, work.first.pixels, work.settings)
        has_test = has_split(options.dataset, "test")
        clean = open_dataset(options.dataset, "test") if has_test else work.dataset
        measured = clean_accuracy(work.teacher, clean, work.settings, most)
    print(
        f"{options.teacher}: top-1 {measured.clean_top1:.2f}%, top-5 "
        f"{measured.clean_top5:.2f}% on centre crops of {measured.clean_samples:,} "
        f"{measured.clean_split} samples"
    )
    expected = options.expect_top1 or work.teacher.required_top1
    if expected is not None:
        require_expected_top1(options.teacher, measured, expected)
    return dataclasses.replace(measured, probe=work.first.probe)


def _settings(options: argparse.Namespace, augmentation: Augmentation) -> CacheSettings:
    from logitbank.pipeline.teacher import CacheSettings, Precision
    from logitbank.pipeline.views import parse_views

    return CacheSettings(
        views=parse_views(augmentation, options.views),
        seed=options.seed,
        encoding=options.encoding,
        batch_size=options.batch_size,
        block_rows=options.block_rows or _rows_there(options.out),
        # A cluster's workers tell the device.
        device="cpu" if options.cluster is not None else open_device(options.device),
        precision=Precision(options.amp, options.tf32, options.channels_last),
        workers=options.workers,
        accept=tuple(options.accept),
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


def _break_even(manifest: Manifest) -> list[str]:
    """Say what the store costs in teacher passes, and when it has paid."""
    samples, views = manifest.dataset.samples, manifest.views
    return [
        f"  {samples * views:,} teacher forward passes, once; a teacher in the loop spends "
        f"{samples:,} an epoch",
        f"  pays from epoch {views + 1} on, counted over all students and seeds that share it",
    ]
