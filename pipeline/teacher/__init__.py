"""The teacher stage: run a trained network once over views of a dataset and keep its logits."""

from logitbank.pipeline.teacher.accuracy import clean_accuracy, require_expected_top1
from logitbank.pipeline.teacher.blocks import work_order
from logitbank.pipeline.teacher.manifest import device_name, raw_manifest, teacher_identity
from logitbank.pipeline.teacher.probe import FirstWord, probe_pixels, teacher_probe
from logitbank.pipeline.teacher.settings import CacheSettings, Precision
from logitbank.pipeline.teacher.soundness import require_same_teacher, require_sound_teacher
from logitbank.pipeline.teacher.stage import (
    TeacherStage,
    cache_views,
    compute_lacking,
    seal_raw,
)

__all__ = [
    "CacheSettings",
    "FirstWord",
    "Precision",
    "TeacherStage",
    "cache_views",
    "clean_accuracy",
    "compute_lacking",
    "device_name",
    "probe_pixels",
    "raw_manifest",
    "require_expected_top1",
    "require_same_teacher",
    "require_sound_teacher",
    "seal_raw",
    "teacher_identity",
    "teacher_probe",
    "work_order",
]
