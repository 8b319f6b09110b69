"""Finished runs: their configurations, results and names."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logitbank.jobs.report.reading import read_run
from logitbank.jobs.report.results import StudentRun
from logitbank.pipeline.student import TrainConfig
from logitbank.pipeline.student.run_folder import CONFIG
from logitbank.stores.errors import LogitbankError, UsageError

_MAX_BYTES = 1_000_000
_WITHOUT_EFFECT = ("seed", "workers", "verify_pixels", "device", "threads")


@dataclass(frozen=True)
class FinishedRun:
    """A run's folder, its configuration and its results."""

    path: Path
    config: TrainConfig
    reached: StudentRun


def read_runs(paths: Sequence[Path]) -> tuple[FinishedRun, ...]:
    """Read finished runs; those that differ only in their seed have the same method.

    Raises:
        UsageError: a folder is not that of a training run, or two runs are the same.
        LogitbankError: a run is unfinished, was not evaluated, or can't be read.
    """
    configs = [read_config(path) for path in paths]
    methods = name_methods(configs)
    runs: list[FinishedRun] = []
    for path, config, method in zip(paths, configs, methods, strict=True):
        reached = read_run(path, method, config.seed)
        if reached.epochs < config.epochs:
            raise LogitbankError(
                f"{path} has finished {reached.epochs} of its {config.epochs} epochs: run its "
                "command again to finish it, or leave it out"
            )
        for run in runs:
            if (run.reached.method, run.reached.seed) == (method, config.seed):
                raise UsageError(
                    f"{run.path} and {path} have the same settings and the same seed, "
                    f"{config.seed}: leave one of them out"
                )
        runs.append(FinishedRun(path, config, reached))
    return tuple(runs)


def read_config(path: Path) -> TrainConfig:
    """Read the configuration of a run's folder.

    Raises:
        UsageError: the folder is not that of a training run.
        LogitbankError: its configuration can't be read.
    """
    file = path / CONFIG
    if not file.is_file():
        raise UsageError(f"{path} is not the folder of a training run: it has no {CONFIG}")
    try:
        with open(file, "rb") as opened:
            text = opened.read(_MAX_BYTES).decode(errors="replace")
    except OSError as error:
        raise LogitbankError(f"{file} can't be read: {error.strerror}") from error
    return TrainConfig.from_yaml(text, str(file))


def name_methods(configs: Sequence[TrainConfig]) -> list[str]:
    """Return a name for what each run learned from: its loss and stores.

    It includes the student if there are several, and settings in which runs of the same name
    differ; runs that only differ in their seed have the same name.
    """
    several = len({config.student for config in configs}) > 1
    names = [_described(config, with_student=several) for config in configs]
    settings = [_settings(config) for config in configs]
    methods = []
    for name, mine in zip(names, settings, strict=True):
        namesakes = [other for other, called in zip(settings, names, strict=True) if called == name]
        different = [key for key in mine if any(other[key] != mine[key] for other in namesakes)]
        methods.append(", ".join([name, *(f"{key} {_plain(mine[key])}" for key in different)]))
    return methods


def _described(config: TrainConfig, *, with_student: bool) -> str:
    """Describe briefly what a student learned from.

    >>> _described(TrainConfig("resnet8", soft_labels=("a/sort.zarr",), loss="kd"),
    ...            with_student=False)
    'kd on sort.zarr'
    """
    text = config.loss or "labels"
    if config.teacher is not None:
        text += f" with {config.teacher} in the loop"
    elif config.soft_labels and config.loss != "ce":
        text += f" on {' and '.join(_last(place) for place in config.soft_labels)}"
        text += "" if config.correction is None else f" corrected by {config.correction}"
    return f"{config.student}: {text}" if with_student else text


def _last(location: str) -> str:
    return location.rstrip("/").rpartition("/")[2]


def _settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that affect what is learned, other than the seed."""
    found = dataclasses.asdict(config)
    return {name: value for name, value in found.items() if name not in _WITHOUT_EFFECT}


def _plain(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return " ".join(map(str, value))
    return "none" if value is None else str(value)
