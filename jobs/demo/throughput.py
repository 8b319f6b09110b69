"""The demo's timing of a student: without a teacher, from the cache, and with it in the loop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from logitbank.jobs.bench.machine import describe_machine, load_average
from logitbank.jobs.bench.paced_run import PacedRun
from logitbank.jobs.bench.timing import interleave
from logitbank.jobs.command_line.opening import open_model
from logitbank.jobs.command_line.progress import Progress
from logitbank.jobs.demo.stages import DemoSettings, read_json
from logitbank.jobs.report.results import Throughput
from logitbank.pipeline.datasets import open_dataset
from logitbank.pipeline.devices import usable_device
from logitbank.pipeline.soft_labels import SoftLabels
from logitbank.pipeline.student import TrainConfig, TrainResult, train
from logitbank.pipeline.student.progress import ReportProgress
from logitbank.stores.files import PARTIAL, LocalFiles

FILE = "throughput.json"


@dataclass(frozen=True)
class _Way:
    """How a student is trained while it is timed."""

    title: str
    loss: str
    in_the_loop: bool = False


REFERENCE = _Way("no teacher", "ce")
CACHED = _Way("cached teacher", "kd")
IN_THE_LOOP = _Way("teacher in the loop", "kd", in_the_loop=True)
AGAIN = _Way("no teacher, again", "ce")
WAYS = (REFERENCE, CACHED, IN_THE_LOOP, AGAIN)


def throughput_of(settings: DemoSettings) -> Throughput:
    """Measure, or read what an earlier run measured with the same store and settings."""
    soft = SoftLabels.open(settings.raw)
    identity = {
        "store": soft.manifest.digest,
        "student": settings.student,
        "samples": settings.limit,
        "batch_size": settings.batch_size,
        "rounds": settings.rounds,
        "device": settings.device,
    }
    files = LocalFiles(settings.out, durable=True)
    found = read_json(files, FILE, dict[str, dict[str, Any]])
    if found is None or found.get("identity") != identity:
        load_before = load_average()
        rates = _measure(settings)
        found = {"identity": identity, "ways": rates, "machine": describe_machine(load_before)}
        found["machine"]["threads"] = torch.get_num_threads()
        files.put(FILE, [json.dumps(found, indent=1).encode()])
    ways = {way: tuple(rates) for way, rates in found["ways"].items()}
    conditions = _conditions(settings, found["machine"])
    return Throughput(ways, CACHED.title, IN_THE_LOOP.title, conditions)


def _measure(settings: DemoSettings) -> dict[str, list[float]]:
    """Time whole epochs, one of each way in turn, after one of each that is not timed."""
    device = usable_device(settings.device)
    settle = partial(torch.cuda.synchronize, device) if device.type == "cuda" else _nothing
    steps = -(-settings.limit // settings.batch_size)
    with ExitStack() as stack:
        train_way = partial(_train, settings, stack.enter_context(_empty_folder(settings.out)))
        runs = {}
        for way in WAYS:
            runs[way.title] = PacedRun(partial(train_way, way), settle)
            stack.callback(runs[way.title].abandon)
        for run in runs.values():
            run.take(steps)
        slices = {title: _epoch_of(run, steps, settings.limit) for title, run in runs.items()}
        return interleave(slices, settings.rounds, progress=Progress("throughput", "round"))


@contextmanager
def _empty_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder for the timed runs, and remove it afterwards."""
    folder = out / f"throughput{PARTIAL}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _epoch_of(run: PacedRun, steps: int, images: int) -> Callable[[], int]:
    def work() -> int:
        run.take(steps)
        return images

    return work


def _train(
    settings: DemoSettings, folder: Path, way: _Way, progress: ReportProgress
) -> TrainResult:
    dataset = open_dataset("digits")
    config = TrainConfig(
        student=settings.student,
        loss=way.loss,
        epochs=settings.rounds + 2,
        batch_size=settings.batch_size,
        lr=settings.lr,
        limit=settings.limit,
        device=settings.device,
        channels_last=True,
    )
    teacher = None
    if way.in_the_loop:
        teacher = open_model(settings.trained_teacher, dataset, pretrained=True)
    return train(
        config,
        dataset,
        out=folder / way.title.replace(" ", "-"),
        soft_labels=SoftLabels.open(settings.raw),
        teacher=teacher,
        progress=progress,
    )


def _conditions(settings: DemoSettings, machine: dict[str, Any]) -> str:
    """Return a text on what was timed, and on which machine."""
    load = machine["load_average"]
    # The demo itself keeps every core busy, and now and then one more thread.
    is_busy = max(load.values()) > machine["cores"] + 1
    text = (
        f"Whole epochs of {settings.limit:,} images of {settings.student} in batches of "
        f"{settings.batch_size} were timed, everything included: rendering the view, checking its "
        "pixels, reading the soft labels, the steps, the checkpoint. The ways take turns, "
        f"{settings.rounds} rounds after one that is not timed, and are compared round by round. "
        f"{machine['cores']} cores of {machine['cpu']}, {machine['threads']} threads; load average "
        f"{load['before']:.1f} before, {load['after']:.1f} after."
    )
    return f"{text} Other work kept the machine busy: don't trust these rates." if is_busy else text


def _nothing() -> None:
    """Do nothing: work on the CPU is synchronous."""
