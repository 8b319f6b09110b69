"""Planning recipes: the commands that make teachers, stores, corrections and students."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from logitbank.jobs.demo.stages import Stage
from logitbank.jobs.reproduce.recipe import UNCORRECTED, Recipe, TeacherTraining
from logitbank.pipeline.student.schedule import scaled_milestones
from logitbank.pipeline.views.augmentation import check_views
from logitbank.pipeline.views.specs import parse_augmentation
from logitbank.stores.errors import UsageError

_DIGITS_TEACHER = TeacherTraining(epochs=7, batch_size=16, lr=0.05)
"""Training of a teacher of digits, if the recipe sets none: short enough that it errs."""


@dataclass(frozen=True)
class Request:
    """What a user asks for, besides the recipes.

    `teachers` are specs with weights, each for the recipes of its network. `scale` shrinks epochs
    and data. `views` None means the recipes' own number, at most the number of epochs.
    """

    dataset: str
    out: Path
    teachers: tuple[str, ...] = ()
    eval_dataset: str | None = None
    seeds: int = 3
    scale: float = 1.0
    views: int | None = None
    device: str | None = None
    workers: int = 2
    amp: bool = False
    channels_last: bool = False


@dataclass(frozen=True)
class Student:
    """A run of a recipe: its correction, seed and folder, and the soft labels that it reads."""

    recipe: str
    correction: str
    seed: int
    folder: Path
    soft_labels: int


@dataclass(frozen=True)
class Plan:
    """All stages in order, each once, and the students by the output of their stage.

    `cached_rows` is the number of teacher forward passes, V x N of each raw store.
    """

    stages: tuple[Stage, ...]
    students: Mapping[Path, Student]
    cached_rows: int


@dataclass(frozen=True)
class _Store:
    """A raw store to make."""

    path: Path
    teacher: str
    augmentation: str
    views: int
    samples: int


_Teacher = tuple[str, Stage | None]
"""A teacher's spec with its weights, and the stage that makes them if none are given."""


@dataclass(frozen=True)
class Planner:
    """Turns recipes into stages.

    Args:
        request: what the user asks for.
        samples: N, the size of the training split.
    """

    request: Request
    samples: int

    def plan(self, recipes: Mapping[str, Recipe]) -> Plan:
        """Plan recipes, given by name: teachers first, then stores, corrections, and students.

        Raises:
            UsageError: a recipe has no teacher, a teacher is of no recipe, two teachers are of the
                same network, or an augmentation has fewer views.
        """
        require_teachers(self.request, recipes)
        known: dict[str, tuple[str, _Teacher]] = {}
        teachers: dict[Path, Stage] = {}
        stores: dict[Path, _Store] = {}
        corrections: dict[Path, Stage] = {}
        stages: dict[Path, Stage] = {}
        students: dict[Path, Student] = {}
        for name, recipe in recipes.items():
            spec, training = self._teacher(name, recipe)
            other, found = known.setdefault(_architecture(spec), (name, (spec, training)))
            if found != (spec, training):
                raise UsageError(
                    f"{other} and {name} have different teachers of the network "
                    f"{_architecture(spec)}: reproduce them one by one, each with its own --out"
                )
            if training is not None:
                teachers[training.output] = training
            raw = self._stores(recipe, spec)
            stores |= {store.path: store for store in raw}
            for seed in range(self.request.seeds):
                for correction in recipe.tabled_corrections:
                    made = [_correction(store.path, correction) for store in raw]
                    corrections |= {stage.output: stage for stage in made if stage is not None}
                    stage, student = self._student(name, recipe, raw, correction, seed)
                    stages[stage.output], students[stage.output] = stage, student
        caches = [self._cache(store) for store in stores.values()]
        rows = sum(store.views * store.samples for store in stores.values())
        order = (*teachers.values(), *caches, *corrections.values(), *stages.values())
        return Plan(order, students, rows)

    def epochs(self, whole: int) -> int:
        """Scale a number of epochs, rounded up."""
        return max(1, math.ceil(whole * self.request.scale))

    def sample_count(self, batch_size: int, most: int) -> int:
        """Scale a number of samples, down to the size of a batch at most."""
        whole = min(self.samples, most)
        return min(whole, max(batch_size, math.ceil(whole * self.request.scale)))

    def _student_samples(self, recipe: Recipe) -> int:
        """Return how many of the first samples students learn from, without the teacher's own."""
        training = recipe.teacher_training
        kept = training.limit or 0 if training is not None and training.apart else 0
        if kept >= self.samples:
            raise UsageError(
                f"the teacher {recipe.teacher} takes {kept:,} of {self.samples:,} images, so that "
                "none is left for the students: lower the limit of its training"
            )
        return self.sample_count(recipe.batch_size, self.samples - kept)

    def _teacher(self, name: str, recipe: Recipe) -> _Teacher:
        """Return the spec of a recipe's teacher with its weights, and the stage that makes them."""
        architecture = _architecture(recipe.teacher)
        for given in self.request.teachers:
            if _architecture(given) == architecture:
                return given, None
        if "@" in recipe.teacher:
            return recipe.teacher, None
        usual = _DIGITS_TEACHER if self.request.dataset == "digits" else None
        training = recipe.teacher_training or usual
        if training is None:
            raise UsageError(
                f"{name} needs its teacher: add --teacher {architecture}@CHECKPOINT, a checkpoint "
                "of train-teacher or mdistiller"
            )
        folder = self.request.out / "teachers" / _file_name(architecture)
        samples = self.sample_count(training.batch_size, training.limit or self.samples)
        skipped = self.samples - samples if training.apart else 0
        stage = _stage(
            f"teacher {architecture}, from {samples:,} labels",
            folder,
            "train-teacher",
            *("--dataset", self.request.dataset, "--model", architecture),
            *("--epochs", self.epochs(training.epochs), "--batch-size", training.batch_size),
            *("--lr", training.lr, "--limit", samples, "--skip", skipped),
            *self._run_flags(folder),
        )
        return f"{architecture}@{folder / 'last.pt'}", stage

    def _stores(self, recipe: Recipe, teacher: str) -> list[_Store]:
        """Return the raw stores that a recipe learns from: weak, and strong if it needs one."""
        views = self.request.views or min(recipe.views, self.epochs(recipe.epochs))
        samples = self._student_samples(recipe)
        stores = []
        for augmentation in filter(None, (recipe.weak, recipe.strong)):
            check_views(parse_augmentation(augmentation), views)
            parts = (_architecture(teacher), augmentation, f"{views}x{samples}")
            path = self.request.out / "stores" / f"{'-'.join(map(_file_name, parts))}.zarr"
            stores.append(_Store(path, teacher, augmentation, views, samples))
        return stores

    def _cache(self, store: _Store) -> Stage:
        request = self.request
        return _stage(
            f"cache {store.views} views of {store.samples:,} images, {store.augmentation}",
            store.path,
            "cache",
            *("--dataset", request.dataset, "--teacher", store.teacher),
            *("--augmentation", store.augmentation, "--views", store.views),
            *("--limit", store.samples, "--workers", request.workers),
            *_given("--device", request.device),
            *(["--channels-last"] if request.channels_last else []),
            *("--out", store.path),
        )

    def _student(
        self, name: str, recipe: Recipe, raw: list[_Store], correction: str, seed: int
    ) -> tuple[Stage, Student]:
        run = f"{_file_name(correction)}-{seed}"
        folder = self.request.out / "students" / name / run
        epochs, samples = self.epochs(recipe.epochs), self._student_samples(recipe)
        drops = scaled_milestones((*recipe.milestones, recipe.epochs), epochs)
        stores = [_corrected(store.path, correction) for store in raw]
        stage = _stage(
            f"student of {name}, {correction}, seed {seed}",
            folder,
            "train",
            *("--dataset", self.request.dataset, "--student", recipe.student),
            *("--soft-labels", *stores, "--loss", recipe.loss),
            *_given("--loss-setting", *_settings(recipe, epochs)),
            *("--limit", samples, "--epochs", epochs, "--batch-size", recipe.batch_size),
            *("--lr", recipe.lr, "--milestones", *drops, "--momentum", recipe.momentum),
            *("--weight-decay", recipe.weight_decay, "--seed", seed),
            *(["--amp"] if self.request.amp else []),
            *self._run_flags(folder),
        )
        soft_labels = epochs * samples * len(raw) if recipe.needs_soft_labels else 0
        return stage, Student(name, correction, seed, folder, soft_labels)

    def _run_flags(self, folder: Path) -> tuple[object, ...]:
        request = self.request
        return (
            *_given("--eval-dataset", request.eval_dataset),
            *_given("--device", request.device),
            *("--workers", request.workers),
            *(["--channels-last"] if request.channels_last else []),
            *("--out", folder),
        )


def require_teachers(request: Request, recipes: Mapping[str, Recipe]) -> None:
    """Check that each given teacher is that of a recipe, and that no two are of one network.

    Raises:
        UsageError: one of these does not hold.
    """
    wanted = sorted({_architecture(recipe.teacher) for recipe in recipes.values()})
    given = [_architecture(spec) for spec in request.teachers]
    for spec, architecture in zip(request.teachers, given, strict=True):
        if architecture not in wanted:
            raise UsageError(
                f"--teacher {spec} is not the teacher of any of these recipes: they have "
                f"{', '.join(wanted)}"
            )
        if given.count(architecture) > 1:
            raise UsageError(f"--teacher names {architecture} twice: name one checkpoint of it")


def _settings(recipe: Recipe, epochs: int) -> list[str]:
    """Return the settings of a loss as `train` takes them, without those that follow the store."""
    loss = recipe.loss_of_run(epochs)
    raw, corrected = (dataclasses.asdict(loss.on_logits(each)) for each in (None, "sort"))
    return [f"{name}={_written(raw[name])}" for name in raw if raw[name] == corrected[name]]


def _written(value: object) -> str:
    if isinstance(value, tuple):
        return "".join(f"{one:g}," for one in value)
    return str(value)


def _correction(raw: Path, correction: str) -> Stage | None:
    """Return the stage of a virtual store, which takes no space; None without a correction."""
    out = _corrected(raw, correction)
    if out == raw:
        return None
    return _stage(
        f"correct {raw.name} by {correction}",
        out,
        "correct",
        *(raw, "--correction", correction, "--virtual", "--out", out),
    )


def _corrected(raw: Path, correction: str) -> Path:
    if correction == UNCORRECTED:
        return raw
    return raw.with_name(f"{raw.stem}-{_file_name(correction)}.zarr")


def _architecture(spec: str) -> str:
    return spec.partition("@")[0]


def _file_name(text: str) -> str:
    """Turn a spec into a file name.

    >>> _file_name("cifar-weak:pad=2,flip=no")
    'cifar-weak-pad-2-flip-no'
    """
    return re.sub(r"[^\w.-]+", "-", text).strip("-")


def _given(flag: str, *values: object) -> tuple[object, ...]:
    return () if values in ((), (None,)) else (flag, *values)


def _stage(title: str, output: Path, *argv: object) -> Stage:
    return Stage(title, tuple(map(str, argv)), output)
