"""The student stage: what a run is asked for, its loop, its folder and its resumption."""

from logitbank.pipeline.student.config import TrainConfig
from logitbank.pipeline.student.progress import Progress, TrainResult
from logitbank.pipeline.student.resolution import loss_of
from logitbank.pipeline.student.run_contents import require_run_folder
from logitbank.pipeline.student.run_folder import RunFolder
from logitbank.pipeline.student.sources import resolved_config
from logitbank.pipeline.student.training import chunks_ahead, train

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
]
