"""`logitbank bench`: the cost of the cache to a student, and the speed of views and corrections."""

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
        "bench", nargs="?", metavar="|".join(BENCHES), help="the bench to run (all by default)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--rounds", type=positive, help="slices of each way (student 40, others 7 by default)"
    )
    parser.add_argument(
        "--samples", type=positive, default=50_000, help="number of random 32 x 32 images"
    )
    parser.add_argument(
        "--threads", type=threads, help="threads of torch (student 1, views 2 by default)"
    )
    _add_student_arguments(parser)
    views = parser.add_argument_group("bench views")
    views.add_argument("--views", type=positive, default=8, help="views per image under one seed")
    views.add_argument("--view-batch", type=positive, default=4096, help="views per batch")
    views.add_argument(
        "--strong-views", type=positive, default=4096, help="cifar-strong views per slice"
    )
    correct = parser.add_argument_group("bench correct (and --device, for rows in memory)")
    correct.add_argument(
        "--megabytes", type=positive, default=128, help="size of the rows in memory"
    )
    correct.add_argument(
        "--store-samples", type=positive, default=131_072, help="samples of the 1,000-class store"
    )
    correct.add_argument(
        "--small-samples", type=positive, default=50_000, help="samples of the 100-class store"
    )
    correct.add_argument(
        "--folder",
        type=local_path,
        metavar="DIR",
        help="folder to make stores in (the system's temporary folder by default)",
    )
    dask = parser.add_argument_group("bench dask (and --folder, --store-samples)")
    dask.add_argument("--tasks", type=positive, default=10_000, help="number of empty tasks")
    dask.add_argument(
        "--store-views", type=positive, default=4, help="views of the store to correct"
    )


def _add_student_arguments(parser: argparse.ArgumentParser) -> None:
    student = parser.add_argument_group("bench student")
    student.add_argument(
        "--student", default="cifar:resnet8x4", metavar="SPEC", help="the model to train"
    )
    student.add_argument(
        "--teacher", default="cifar:resnet32x4", metavar="SPEC", help="the teacher in the loop"
    )
    student.add_argument(
        "--classes", type=positive, default=100, help="number of classes of the random labels"
    )
    student.add_argument("--batch-size", type=positive, default=64, help="images per step")
    student.add_argument("--steps", type=positive, default=1, help="training steps per slice")
    student.add_argument("--device", default="cpu", help="cpu or cuda[:N]")


def run(options: argparse.Namespace) -> None:
    """Run one bench, or all of them, and print the results."""
    if options.bench is not None and options.bench not in BENCHES:
        raise unknown_name("bench", options.bench, BENCHES)
    if options.folder is not None:
        if not Path(options.folder).is_dir():
            raise UsageError(f"--folder {options.folder} is not a folder")
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
