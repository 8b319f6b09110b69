"""`logitbank demo`: run everything end to end on scikit-learn's digits, with a report."""

from __future__ import annotations

import argparse
from pathlib import Path

from logitbank.jobs.cli import run_job
from logitbank.jobs.command_line.arguments import (
    command_line,
    plan_count,
    positive,
    positive_number,
    seed,
)
from logitbank.jobs.command_line.paths import out_path
from logitbank.jobs.command_line.stage_log import StageLog, require_own_folder
from logitbank.jobs.demo.stages import (
    AUGMENTATION,
    DemoSettings,
    Stage,
    StageTimes,
    demo_stages,
)
from logitbank.stores.housekeeping.outside_stores import require_outside_stores

LOG = "demo.log"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the job's arguments; the defaults take about two and a half minutes on 2 cores."""
    defaults = DemoSettings()
    parser.add_argument(
        "--out",
        type=out_path,
        default=str(defaults.out),
        metavar="DIR",
        help="runs, stores, report",
    )
    parser.add_argument(
        "--seeds", type=plan_count, default=defaults.seeds, help="runs of each method"
    )
    parser.add_argument(
        "--limit", type=positive, default=defaults.limit, help="digits learned from"
    )
    parser.add_argument(
        "--views", type=plan_count, default=defaults.views, help="cached of each digit"
    )
    parser.add_argument("--teacher", default=defaults.teacher, metavar="SPEC", help="who is cached")
    parser.add_argument("--teacher-limit", type=positive, default=defaults.teacher_limit)
    parser.add_argument("--teacher-epochs", type=positive, default=defaults.teacher_epochs)
    parser.add_argument("--student", default=defaults.student, metavar="SPEC", help="who learns")
    parser.add_argument("--epochs", type=positive, default=defaults.epochs, help="of a student")
    parser.add_argument("--batch-size", type=positive, default=defaults.batch_size)
    parser.add_argument(
        "--lr", type=positive_number, default=defaults.lr, help="learning rate of a student"
    )
    parser.add_argument(
        "--rounds", type=positive, default=defaults.rounds, help="epochs timed of each way to train"
    )
    parser.add_argument("--seed", type=seed, default=defaults.seed, help="of teacher and views")
    parser.add_argument("--device", default=defaults.device, help="cpu or cuda[:N]")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, run nothing")


def run(options: argparse.Namespace) -> None:
    """Run every stage that is not done yet, write the report and print the accuracies."""
    settings = _settings(options)
    require_outside_stores(settings.out)
    stages = demo_stages(settings)
    require_own_folder(settings.out, LOG)
    _try_settings(settings)
    if options.dry_run:
        print("\n".join(command_line(stage.argv) for stage in stages))
        return
    settings.out.mkdir(parents=True, exist_ok=True)
    times = StageTimes(settings.out)
    shown = StageLog(len(stages) + 2, settings.out / LOG)
    for stage in stages:
        with shown.stage(stage.title), times.of(stage):
            run_job(stage.argv[0], stage.argv[1:])
    _report(settings, stages, times, shown)


def _try_settings(settings: DemoSettings) -> None:
    """Fail early on settings that only a later stage would reject."""
    from logitbank.jobs.command_line.opening import open_device, open_model
    from logitbank.pipeline.datasets import open_dataset
    from logitbank.pipeline.views import check_views, parse_augmentation

    open_device(settings.device)
    check_views(parse_augmentation(AUGMENTATION), settings.views)
    for network in (settings.teacher, settings.student):
        open_model(network, open_dataset("digits"), pretrained=False)


def _settings(options: argparse.Namespace) -> DemoSettings:
    given = {name: getattr(options, name) for name in DemoSettings.names()}
    return DemoSettings(**(given | {"out": Path(options.out)}))


def _report(
    settings: DemoSettings, stages: tuple[Stage, ...], times: StageTimes, shown: StageLog
) -> None:
    """Measure throughput, unless an earlier run has, and write the page."""
    from logitbank.jobs.demo.report import demo_report
    from logitbank.jobs.demo.throughput import throughput_of
    from logitbank.jobs.report.page import write_report
    from logitbank.jobs.report.tables import accuracy_table, table_lines

    with shown.stage("throughput of training"):
        throughput = throughput_of(settings)
    with shown.stage("report"):
        report = demo_report(settings, stages, throughput, times.seconds)
        page = write_report(report, settings.out)
    print("\n".join(["", *table_lines(accuracy_table(report)), "", f"report: {page}"]))
