"""The demo's report, made from what its stages left in their folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from logitbank.jobs.command_line.arguments import command_line
from logitbank.jobs.demo.stages import (
    AUGMENTATION,
    METHODS,
    TEACHER_BATCH_SIZE,
    DemoSettings,
    Stage,
)
from logitbank.jobs.report.collecting import report_of
from logitbank.jobs.report.reading import read_run
from logitbank.jobs.report.results import Report, StoreOnDisk, TeacherCost, Throughput
from logitbank.jobs.report.runs import read_config
from logitbank.pipeline.datasets import open_dataset
from logitbank.pipeline.student import TrainConfig
from logitbank.stores.reader import Store

_CAVEAT = (
    "Ten classes of small digits prove the plumbing, not the papers: that views, logits, "
    "corrections, students and this page fit together. Whether sort or swap helps on a hard "
    "problem is a question for CIFAR-100 and ImageNet."
)


def demo_report(
    settings: DemoSettings,
    stages: tuple[Stage, ...],
    throughput: Throughput,
    seconds: Mapping[str, float],
) -> Report:
    """Build the report from the results that the demo left on disk.

    Args:
        settings: the demo's.
        stages: its jobs, all done.
        throughput: of training.
        seconds: the time of stages by title, for those that were timed as a whole.

    Raises:
        StoreError: a store is incomplete or damaged.
        LogitbankError: a run's metrics can't be read.
    """
    train = open_dataset("digits").head(settings.limit)
    titles = {method.name: method.title for method in METHODS}
    stores = {path.name: Store.open(path) for path in settings.stores.values()}
    config = read_config(settings.student_run(METHODS[1], 0))
    runs = tuple(
        read_run(settings.student_run(method, seed), method.title, seed)
        for method in METHODS
        for seed in range(settings.seeds)
    )
    found = report_of(stores, runs, train, temperature=config.temperature or 1.0)
    return dataclasses.replace(
        found,
        title="One teacher, run once: the digits demo",
        introduction=_introduction(settings),
        caveat=_CAVEAT,
        comparisons=(
            (titles["sort"], titles["raw"]),
            (titles["swap"], titles["raw"]),
            (titles["sort"], titles["swap"]),
            (titles["raw"], titles["labels"]),
        ),
        test_samples=len(open_dataset("digits", "test")),
        throughput=throughput,
        cost=_cost(settings, seconds, stages),
        setting=_setting(settings, found.stores, config),
        commands=tuple(command_line(stage.argv) for stage in stages),
        stages={stage.title: seconds[stage.title] for stage in stages if stage.title in seconds},
    )


def _introduction(settings: DemoSettings) -> str:
    return (
        f"A {settings.teacher} saw {settings.views} views of each of {settings.limit:,} digits "
        f"once. Its logits were stored, corrected by sort and by swap, and used to teach "
        f"{settings.student}, {settings.seeds} seeds each way."
    )


def _cost(
    settings: DemoSettings, seconds: Mapping[str, float], stages: tuple[Stage, ...]
) -> TeacherCost:
    """Count the students that learned from the teacher, and add up the time of the stores."""
    outputs = settings.stores.values()
    titles = [stage.title for stage in stages if stage.output in outputs]
    timed = all(title in seconds for title in titles)
    return TeacherCost(
        samples=settings.limit,
        views=settings.views,
        epochs=settings.epochs,
        students=settings.seeds * sum(method.loss == "kd" for method in METHODS),
        cache_seconds=sum(seconds[title] for title in titles) if timed else None,
    )


def _setting(
    settings: DemoSettings, stores: tuple[StoreOnDisk, ...], config: TrainConfig
) -> dict[str, str]:
    raw = stores[0].manifest
    versions = raw.provenance.versions
    teacher = read_config(settings.teacher_run)
    return {
        "dataset": f"{raw.dataset.name} {raw.dataset.split}, the first {raw.dataset.samples:,} of "
        "its samples; accuracies are of its test split",
        "teacher": f"{settings.teacher}, {teacher.epochs} epochs of {teacher.limit:,} labels in "
        f"batches of {TEACHER_BATCH_SIZE}, mirrored at random as train-teacher does; stopped "
        "early, so that it errs",
        "views": f"{raw.views} of {AUGMENTATION}, seed {raw.augmentation.seed}: only shifts, "
        "since a mirrored digit is not a digit",
        "student": f"{config.student}, {config.epochs} epochs, batches of {config.batch_size}, "
        f"SGD at {config.lr:g} with momentum {config.momentum:g}, a tenth of it from epochs "
        f"{', '.join(map(str, config.milestones or ()))}, weight decay {config.weight_decay:g}",
        "loss": f"{config.ce_weight:g} · cross-entropy + {config.kd_weight:g} · KL at temperature "
        f"{config.temperature:g} (hard labels: cross-entropy alone), on the same views",
        "device": raw.provenance.device,
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
        **{f"digest of {store.name}": str(store.manifest.digest) for store in stores},
    }
