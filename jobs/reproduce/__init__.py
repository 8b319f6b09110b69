"""`logitbank reproduce`: recipes of the papers from teacher to table, with one command."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitbank.jobs.command_line.arguments import (
    DATASET_HELP,
    command_line,
    plan_count,
    share,
    threads,
)
from logitbank.jobs.command_line.paths import location, out_path
from logitbank.jobs.command_line.stage_log import require_own_folder
from logitbank.stores.errors import UsageError
from logitbank.stores.housekeeping.outside_stores import require_outside_stores

if TYPE_CHECKING:
    from logitbank.jobs.reproduce.plan import Plan, Request, Student
    from logitbank.jobs.reproduce.recipe import Recipe
    from logitbank.jobs.reproduce.seconds import StageSeconds
    from logitbank.jobs.reproduce.table import Results
    from logitbank.pipeline.datasets import ImageDataset

LOG = "reproduce.log"
RECIPE_HELP = (
    "a recipe (cifar100/resnet32x4-resnet8x4/dkd), a pair with all of its losses "
    "(cifar100/resnet32x4-resnet8x4), a dataset (digits), or your own file or folder"
)
_KINDS = {
    "train-teacher": "to train teachers",
    "cache": "to cache",
    "correct": "to correct",
    "train": "to train students",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments."""
    parser.add_argument("recipes", type=location, nargs="+", metavar="RECIPE", help=RECIPE_HELP)
    parser.add_argument("--dataset", required=True, metavar="SPEC", help=DATASET_HELP)
    parser.add_argument(
        "--eval-dataset", metavar="SPEC", help="the dataset whose test split to evaluate on"
    )
    parser.add_argument(
        "--teacher",
        nargs="+",
        default=[],
        metavar="SPEC",
        help="the recipes' teachers with weights, one per network (not needed for digits)",
    )
    parser.add_argument(
        "--out",
        type=out_path,
        required=True,
        metavar="DIR",
        help="folder for stores, runs and the table",
    )
    parser.add_argument("--seeds", type=plan_count, default=3, help="students per row")
    parser.add_argument(
        "--scale", type=share, default=1.0, help="share of epochs and data to use, for a trial"
    )
    parser.add_argument(
        "--views",
        type=plan_count,
        metavar="V",
        help="views to cache per image (by default the recipes' own)",
    )
    parser.add_argument("--device", help="cpu or cuda[:N] (CUDA if available)")
    parser.add_argument("--workers", type=threads, default=2, help="workers that render images")
    parser.add_argument(
        "--amp", action="store_true", help="train students in mixed precision, on CUDA"
    )
    parser.add_argument(
        "--channels-last", action="store_true", help="use the channels_last memory format"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run nothing")


def run(options: argparse.Namespace) -> int:
    """Run every stage that is not done yet, and write the table after each student."""
    from logitbank.jobs.reproduce.plan import Planner

    recipes = _recipes(options.recipes)
    request = _request(options)
    require_outside_stores(request.out)
    require_own_folder(request.out, LOG)
    dataset = _dataset(request)
    plan = Planner(request, len(dataset)).plan(recipes)
    _try_models(request, recipes, dataset)
    if options.dry_run:
        print("\n".join(command_line(stage.argv) for stage in plan.stages))
        return 0
    request.out.mkdir(parents=True, exist_ok=True)
    return _run_stages(request, recipes, plan)


def _recipes(names: Sequence[str]) -> dict[str, Recipe]:
    """Read all recipes, by name; raise UsageError if two files have the same name."""
    from logitbank.jobs.reproduce.recipe_files import find_recipes, merge_recipes

    entries = merge_recipes(map(find_recipes, names))
    return {name: entry.recipe() for name, entry in entries.items()}


def _request(options: argparse.Namespace) -> Request:
    from logitbank.jobs.reproduce.plan import Request

    names = {field.name for field in dataclasses.fields(Request)}
    given: dict[str, Any] = {name: getattr(options, name) for name in names & vars(options).keys()}
    return Request(**given | {"out": Path(options.out), "teachers": tuple(options.teacher)})


def _dataset(request: Request) -> ImageDataset:
    """Open the training split; raise UsageError if there is no test split of the same classes."""
    from logitbank.pipeline.datasets import has_split, open_dataset
    from logitbank.pipeline.student.sources import check_evaluation_classes

    evaluated = request.eval_dataset or request.dataset
    if not has_split(evaluated, "test"):
        raise UsageError(
            f"{evaluated} has no test split, and a table of accuracies needs one: name a dataset "
            "that has one by --eval-dataset"
        )
    dataset = open_dataset(request.dataset, "train")
    check_evaluation_classes(dataset, open_dataset(evaluated, "test"))
    return dataset


def _try_models(request: Request, recipes: dict[str, Recipe], dataset: ImageDataset) -> None:
    """Load every network once, to fail now rather than hours later."""
    from logitbank.jobs.command_line.opening import open_model
    from logitbank.pipeline.devices import usable_device

    device = usable_device(request.device)
    if request.amp and device.type != "cuda":
        raise UsageError(f"--amp needs a CUDA device, not {device}: leave --amp out")
    for student in dict.fromkeys(recipe.student for recipe in recipes.values()):
        open_model(student, dataset, pretrained=False)
    for teacher in request.teachers:
        open_model(teacher, dataset, pretrained=True)


def _run_stages(request: Request, recipes: dict[str, Recipe], plan: Plan) -> int:
    """Run the stages; return the exit code of the first that was asked to stop, else 0."""
    from logitbank.jobs.cli import run_job
    from logitbank.jobs.command_line.stage_log import StageLog
    from logitbank.jobs.command_line.stopping import report_stopped
    from logitbank.jobs.reproduce.plot import save_plot
    from logitbank.jobs.reproduce.seconds import StageSeconds
    from logitbank.jobs.reproduce.table import MARKDOWN, shown_lines, write_table

    seconds = StageSeconds(request.out)
    shown = StageLog(len(plan.stages), request.out / LOG)
    done: list[Student] = []
    for stage in plan.stages:
        with shown.stage(stage.title):
            code = seconds.run(stage, partial(run_job, stage.argv[0], stage.argv[1:]))
        if code:
            report_stopped("reproduce", f"a signal during: {stage.title}")
            return code
        if stage.output in plan.students:
            done.append(plan.students[stage.output])
            results = _results(request, recipes, plan, done, seconds)
            write_table(results, request.out)
    save_plot(results, request.out)
    page = _write_page(request, plan, results)
    lines = [*shown_lines(results), "", f"report: {page}", f"table: {request.out / MARKDOWN}"]
    print("\n".join(lines))
    return 0


def _write_page(request: Request, plan: Plan, results: Results) -> Path:
    """Write the page of `logitbank report` on all stores and students."""
    from logitbank.jobs.report.collecting import report_of
    from logitbank.jobs.report.page import write_report
    from logitbank.stores.reader import Store

    makers = ("cache", "correct")
    made = [stage.output for stage in plan.stages if stage.argv[0] in makers]
    report = report_of(
        {path.name: Store.open(path) for path in made},
        [run for row in results.rows for run in row.runs],
    )
    compared = [row.runs[0].method for row in results.rows]
    first = {row.name: run for row, run in reversed(list(zip(results.rows, compared, strict=True)))}
    pairs = zip(results.rows, compared, strict=True)
    report = dataclasses.replace(
        report,
        title=f"Recipes on {request.dataset}",
        caveat=results.caveat,
        comparisons=tuple((run, first[row.name]) for row, run in pairs if run != first[row.name]),
        commands=tuple(command_line(stage.argv) for stage in plan.stages),
    )
    return write_report(report, request.out)


def _results(
    request: Request,
    recipes: dict[str, Recipe],
    plan: Plan,
    done: Sequence[Student],
    seconds: StageSeconds,
) -> Results:
    """Read the results of finished students, and add up their cost."""
    from logitbank.jobs.report.reading import read_run
    from logitbank.jobs.reproduce.table import Cost, Results, Row

    rows: dict[tuple[str, str], Row] = {}
    for student in done:
        name, correction = key = student.recipe, student.correction
        run = read_run(student.folder, f"{name}, {correction}", student.seed)
        row = rows.setdefault(key, Row(name, recipes[name], correction, ()))
        rows[key] = dataclasses.replace(row, runs=(*row.runs, run))
    spent_on = {
        kind: seconds.total(tuple(stage for stage in plan.stages if stage.argv[0] == job))
        for job, kind in _KINDS.items()
    }
    cost = Cost(plan.cached_rows, sum(student.soft_labels for student in done), spent_on)
    return Results(tuple(rows.values()), cost, request.dataset, request.scale)
