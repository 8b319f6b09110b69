"""The YAML file of `slurm:FILE.yaml` and `pbs:FILE.yaml`: what to request of a batch system."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from logitbank.jobs.command_line.yaml_mapping import read_mapping
from logitbank.stores.errors import UsageError, unknown_name

Count = Annotated[int, Field(ge=1, strict=True)]


@dataclass(frozen=True)
class QueueSettings:
    """The settings of one file; all but `workers` are arguments of dask-jobqueue's clusters.

    `workers` is the number of worker processes in all, `cores` and `memory` are those of one batch
    job, and `processes` is how many workers share it. Each worker computes one Dask task at a time,
    with its share of the cores.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    workers: Count
    cores: Count
    memory: str
    processes: Count = 1
    walltime: str | None = None
    queue: str | None = None
    account: str | None = None
    job_name: str | None = None
    job_extra_directives: list[str] = dataclasses.field(default_factory=list)
    job_directives_skip: list[str] = dataclasses.field(default_factory=list)
    job_script_prologue: list[str] = dataclasses.field(default_factory=list)
    worker_extra_args: list[str] = dataclasses.field(default_factory=list)
    python: str | None = None
    shebang: str | None = None
    interface: str | None = None
    protocol: str | None = None
    local_directory: str | None = None
    log_directory: str | None = None
    death_timeout: Count | None = None
    scheduler_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    job_cpu: Count | None = None
    job_mem: str | None = None
    resource_spec: str | None = None

    @property
    def threads(self) -> int:
        """The number of threads that each worker computes with."""
        return max(1, self.cores // self.processes)


SINGLE_QUEUE_SETTINGS = {"job_cpu": "slurm", "job_mem": "slurm", "resource_spec": "pbs"}
PATHS = {"python", "local_directory", "log_directory"}
"""Settings in which `~` is expanded here, since a batch script would not."""

SIZE = re.compile(r"\d+(\.\d+)? ?[kMGT]i?B")
NAMES = tuple(field.name for field in dataclasses.fields(QueueSettings))


def read_queue_settings(kind: str, path: Path) -> QueueSettings:
    """Read and check a file of settings.

    Args:
        kind: `slurm` or `pbs`.
        path: the file.

    Raises:
        UsageError: it can't be read, is not YAML, or a setting is unknown, missing or of the wrong
            type; the setting is named.
    """
    return queue_settings(kind, read_mapping(path, title=f"{kind}:{path}"), str(path))


def queue_settings(kind: str, found: Mapping[str, Any], source: str) -> QueueSettings:
    """Check settings; raises as `read_queue_settings`."""
    given = {str(name).replace("-", "_"): value for name, value in found.items()}
    for name in PATHS & given.keys():
        if isinstance(given[name], str):
            given[name] = os.path.expanduser(given[name])
    known = [name for name in NAMES if SINGLE_QUEUE_SETTINGS.get(name, kind) == kind]
    for name in given:
        if name not in known:
            raise unknown_name(f"setting in {source}", name, known)
    try:
        settings = TypeAdapter(QueueSettings).validate_python(given)
    except ValidationError as error:
        raise UsageError(f"{source}: {_first_problem(error, given)}") from None
    if not SIZE.fullmatch(settings.memory):
        raise UsageError(f"{source}: memory: {settings.memory!r} is not a size such as 32GB")
    if settings.processes > settings.cores:
        raise UsageError(
            f"{source}: processes is {settings.processes}, but there are only {settings.cores} "
            "cores"
        )
    return settings


def _first_problem(error: ValidationError, given: Mapping[str, Any]) -> str:
    problem = error.errors()[0]
    name = str(problem["loc"][0])
    if problem["type"] == "missing":
        return f"{name} is missing"
    if name == "walltime" and isinstance(given[name], int):
        # YAML 1.1 reads 02:00:00 as a number in base 60.
        return 'walltime must be quoted: "HH:MM:SS"'
    return f"{name}: {problem['msg'][0].lower()}{problem['msg'][1:]}, not {given[name]!r}"
