"""The student stage: what a run is asked for, its loop, its folder and its resumption."""

from logitbank.pipeline.student.config import TrainConfig
from logitbank.pipeline.student.progress import Progress, TrainResult
from logitbank.pipeline.student.sources import resolved_config
from logitbank.pipeline.student.training import chunks_ahead, train

__all__ = ["Progress", "TrainConfig", "TrainResult", "chunks_ahead", "resolved_config", "train"]
