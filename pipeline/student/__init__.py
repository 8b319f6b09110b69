"""The student stage: a run's configuration, its loop, its folder and its resumption."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from logitbank.pipeline.student.config import TrainConfig
    from logitbank.pipeline.student.progress import Progress, TrainResult
    from logitbank.pipeline.student.resolution import loss_of, with_published_run
    from logitbank.pipeline.student.run_contents import require_run_folder
    from logitbank.pipeline.student.run_folder import RunFolder
    from logitbank.pipeline.student.sources import resolved_config
    from logitbank.pipeline.student.training import chunks_ahead, train

_HOMES = {
    "Progress": "progress",
    "RunFolder": "run_folder",
    "TrainConfig": "config",
    "TrainResult": "progress",
    "chunks_ahead": "training",
    "loss_of": "resolution",
    "require_run_folder": "run_contents",
    "resolved_config": "sources",
    "train": "training",
    "with_published_run": "resolution",
}

__all__ = [
    "Progress",
    "RunFolder",
    "TrainConfig",
    "TrainResult",
    "chunks_ahead",
    "loss_of",
    "require_run_folder",
    "resolved_config",
    "train",
    "with_published_run",
]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: the flags of `train` are read without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
