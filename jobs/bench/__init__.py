"""`logitbank bench`: what the cache costs a student, and the speed of views and corrections."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from logitbank.jobs.bench.machine import describe_machine, load_average, machine_line
from logitbank.jobs.command_line.arguments import positive, threads
from logitbank.jobs.command_line.paths import local_path, require_writable_place
from logitbank.jobs.command_line.progress import Progress
from logitbank.stores.errors import UsageError, unknown_name

BENCHES = ("correct", "dask", "student", "views")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments."""
    parser.add_argument(
        "bench", nargs="?", metavar="|".join(BENCHES), help="one alone; without a name all"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--rounds", type=positive, help="slices of each way (student 40, others 7 where not given)"
    )
    parser.add_argument("--samples", type=positive, default=50_000, help="random images of 32 x 32")
    parser.add_argument(
        "--threads", type=threads, help="of torch (student 1, views 2 where not given)"
    )
    student = parser.add_argument_group("bench student")
    student.add_argument("--student", default="cifar:resnet8x4", metavar="SPEC", help="who learns")
    student.add_argument(
        "--teacher", default="cifar:resnet32x4", metavar="SPEC", help="who is in the loop"
    )
    student.add_argument("--classes", type=positive, default=100, help="of the random labels")
    student.add_argument("--batch-size", type=positive, default=64, help="of a training step")
    student.add_argument("--steps", type=positive, default=1, help="training steps of a slice")
    student.add_argument("--device", default="cpu", help="cpu or cuda[:N]")
    views = parser.add_argument_group("bench views")
    views.add_argument("--views", type=positive, default=8, help="of each image, under one seed")
    views.add_argument("--view-batch", type=positive, default=4096, help="views made at a time")
    views.add_argument(
        "--strong-views", type=positive, default=4096, help="cifar-strong views of a slice"
    )
    correct = parser.add_argument_group("bench correct (--device too: of rows in memory)")
    correct.add_argument("--megabytes", type=positive, default=128, help="of rows in memory")
    correct.add_argument("--store-samples", type=positive, default=131_072, help="of 1,000 classes")
    correct.add_argument("--small-samples", type=positive, default=50_000, help="of 100 classes")
    correct.add_argument(
        "--folder",
        type=local_path,
        metavar="DIR",
        help="where stores are made (the system's own)",
    )
    dask = parser.add_argument_group("bench dask (--folder and --store-samples too)")
    dask.add_argument("--tasks", type=positive, default=10_000, help="handed out one by one")
    dask.add_argument("--store-views", type=positive, default=4, help="of the store to correct")


def run(options: argparse.Namespace) -> None:
    """Run one bench, or all, and print what was measured."""
    if options.bench is not None and options.bench not in BENCHES:
        raise unknown_name("bench", options.bench, BENCHES)
    if options.folder is not None:
        if not Path(options.folder).is_dir():
            raise UsageError(f"--folder {options.folder}: there is no such folder")
        require_writable_place(Path(options.folder, "store.zarr"))
    wanted = BENCHES if options.bench is None else (options.bench,)
    measure = {"correct": _correct, "dask": _dask, "student": _student, "views": _views}
    load_before = load_average()
    measured = {name: measure[name](options) for name in wanted}
    machine = describe_machine(load_before)
    if options.json:
        found = {name: fields for name, (fields, _) in measured.items()}
        print(json.dumps({"machine": machine, **found}))
        return
    for _, lines in measured.values():
        print("\n".join([*lines, ""]))
    print(machine_line(machine))


def _correct(options: argparse.Namespace) -> tuple[dict[str, object], list[str]]:
    from logitbank.jobs.bench.correct import CorrectSettings, correct_lines, measure_correct
    from logitbank.jobs.command_line.opening import open_device

    settings = CorrectSettings(
        megabytes=options.megabytes,
        store_samples=options.store_samples,
        small_samples=options.small_samples,
        rounds=options.rounds or 7,
        device=open_device(options.device),
        folder=options.folder,
    )
    found = measure_correct(settings, Progress("bench correct", "round"))
    return found.to_json(), correct_lines(found)


def _dask(options: argparse.Namespace) -> tuple[dict[str, object], list[str]]:
    from logitbank.jobs.bench.dask import DaskSettings, dask_lines, measure_dask

    settings = DaskSettings(
        tasks=options.tasks,
        slice_tasks=min(options.tasks, 200),
        samples=options.store_samples,
        views=options.store_views,
        rounds=options.rounds or 7,
        folder=options.folder,
    )
    found = measure_dask(settings, Progress("bench dask", "round"))
    return found.to_json(), dask_lines(found)


def _student(options: argparse.Namespace) -> tuple[dict[str, object], list[str]]:
    from logitbank.jobs.bench.student import measure_student
    from logitbank.jobs.bench.student_figures import StudentSettings, student_lines

    settings = StudentSettings(
        student=options.student,
        teacher=options.teacher,
        classes=options.classes,
        samples=options.samples,
        batch_size=options.batch_size,
        steps=options.steps,
        rounds=options.rounds or 40,
        threads=options.threads or 1,
        device=options.device,
    )
    found = measure_student(settings, Progress("bench student", "round"))
    return found.to_json(), student_lines(found)


def _views(options: argparse.Namespace) -> tuple[dict[str, object], list[str]]:
    from logitbank.jobs.bench.views import ViewSettings, measure_views, view_lines

    settings = ViewSettings(
        samples=options.samples,
        views=options.views,
        batch_size=options.view_batch,
        strong_views=options.strong_views,
        rounds=options.rounds or 7,
        threads=options.threads or 2,
    )
    found = measure_views(settings, Progress("bench views", "round"))
    return found.to_json(), view_lines(found)
