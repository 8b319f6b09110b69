"""The stages of the demo, as commands that can be typed by hand, and how long each took."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from logitbank.stores.errors import LogitbankError
from logitbank.stores.files import LocalFiles

TIMES = "stages.json"
AUGMENTATION = "cifar-weak:flip=no"
"""A mirrored digit is not a digit, so the views are only shifts."""
CORRECTIONS = ("sort", "swap")
TEACHER_BATCH_SIZE = 16


@dataclass(frozen=True)
class DemoSettings:
    """Settings of the demo; `limit` and `teacher_limit` are numbers of training digits.

    The teacher has more labels than its students, but is stopped so early that it is wrong on a few
    percent of the views, so that there is something to correct.
    """

    out: Path = Path("runs/demo")
    seeds: int = 3
    limit: int = 600
    views: int = 10
    teacher: str = "cifar:resnet14"
    teacher_limit: int = 1438
    teacher_epochs: int = 7
    student: str = "cifar:resnet8"
    epochs: int = 10
    batch_size: int = 32
    lr: float = 0.1
    rounds: int = 6
    seed: int = 0
    device: str = "cpu"

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all settings."""
        return tuple(field.name for field in dataclasses.fields(cls))

    @property
    def raw(self) -> Path:
        """The store of the teacher's own logits."""
        return self.out / "raw.zarr"

    @property
    def stores(self) -> dict[str, Path]:
        """All stores by name, the raw one first."""
        return {name: self.out / f"{name}.zarr" for name in ("raw", *CORRECTIONS)}

    @property
    def teacher_run(self) -> Path:
        """The folder of the teacher's training."""
        return self.out / "teacher"

    @property
    def trained_teacher(self) -> str:
        """The spec of the teacher with its weights."""
        return f"{self.teacher}@{self.teacher_run / 'last.pt'}"

    def student_run(self, method: Method, seed: int) -> Path:
        """Return the folder of a student's run."""
        return self.out / "students" / f"{method.name}-{seed}"


@dataclass(frozen=True)
class Method:
    """What a student learns from: the store's name and a loss. All see the same views."""

    name: str
    title: str
    store: str
    loss: str


METHODS = (
    Method("labels", "hard labels", "raw", "ce"),
    Method("raw", "KD on raw", "raw", "kd"),
    Method("sort", "KD on sort", "sort", "kd"),
    Method("swap", "KD on swap", "swap", "kd"),
)


@dataclass(frozen=True)
class Stage:
    """One job: its command line without the program's name, and the folder that it makes."""

    title: str
    argv: tuple[str, ...]
    output: Path


def demo_stages(settings: DemoSettings) -> tuple[Stage, ...]:
    """Return the jobs in order: teacher, cache, corrections, then all methods seed by seed."""
    students = [
        _student(settings, method, seed) for seed in range(settings.seeds) for method in METHODS
    ]
    corrections = [_correction(settings, name) for name in CORRECTIONS]
    return (_teacher(settings), _cache(settings), *corrections, *students)


def _teacher(settings: DemoSettings) -> Stage:
    out = settings.teacher_run
    return _stage(
        f"teacher {settings.teacher}, from {settings.teacher_limit:,} labels",
        out,
        "train-teacher --dataset digits --model",
        settings.teacher,
        *_flags(settings, limit=settings.teacher_limit, epochs=settings.teacher_epochs),
        *("--batch-size", TEACHER_BATCH_SIZE, "--seed", settings.seed, "--out", out),
    )


def _cache(settings: DemoSettings) -> Stage:
    out = settings.raw
    return _stage(
        f"cache {settings.views} views of {settings.limit:,} digits",
        out,
        "cache --dataset digits --teacher",
        settings.trained_teacher,
        *("--augmentation", AUGMENTATION, "--views", settings.views, "--seed", settings.seed),
        *("--limit", settings.limit, "--device", settings.device, "--out", out),
    )


def _correction(settings: DemoSettings, name: str) -> Stage:
    out = settings.stores[name]
    return _stage(
        f"correct by {name}", out, "correct", settings.raw, "--correction", name, "--out", out
    )


def _student(settings: DemoSettings, method: Method, seed: int) -> Stage:
    out = settings.student_run(method, seed)
    return _stage(
        f"student from {method.title}, seed {seed}",
        out,
        "train --dataset digits --student",
        settings.student,
        *("--soft-labels", settings.stores[method.store], "--loss", method.loss),
        *_flags(settings, limit=settings.limit, epochs=settings.epochs),
        *("--batch-size", settings.batch_size, "--lr", settings.lr),
        *("--seed", seed, "--out", out),
    )


def _flags(settings: DemoSettings, *, limit: int, epochs: int) -> tuple[object, ...]:
    return ("--limit", limit, "--epochs", epochs, "--device", settings.device, "--channels-last")


def _stage(title: str, output: Path, command: str, *arguments: object) -> Stage:
    return Stage(title, (*command.split(), *map(str, arguments)), output)


class StageTimes:
    """The seconds that stages took, kept in the demo's folder.

    A stage that an earlier run left unfinished has no time, since only its rest could be timed.
    """

    def __init__(self, out: Path) -> None:
        self._files = LocalFiles(out, durable=True)
        self.seconds: dict[str, float] = read_json(self._files, TIMES, dict[str, float]) or {}

    @contextmanager
    def of(self, stage: Stage) -> Iterator[None]:
        """Time a stage in a `with` block, and keep its time if all of it was done in this run."""
        is_whole = not stage.output.exists()
        began = time.perf_counter()
        yield
        if is_whole:
            self.seconds[stage.title] = round(time.perf_counter() - began, 3)
            self._files.put(TIMES, [json.dumps(self.seconds, indent=1).encode()])


def read_json(files: LocalFiles, name: str, kind: Any) -> Any:
    """Read a JSON file of the demo's folder, None if there is none.

    Args:
        files: the folder.
        name: the file's name.
        kind: the type of its content.

    Raises:
        LogitbankError: the file is damaged.
    """
    content = files.get(name)
    try:
        return None if content is None else TypeAdapter(kind).validate_python(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise LogitbankError(
            f"{files.path(name)} is damaged: it only holds measured times, so move it elsewhere to "
            "have them measured again"
        ) from error
