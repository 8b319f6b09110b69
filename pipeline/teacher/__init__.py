"""The teacher stage: run a trained network once over views of a dataset and keep its logits."""

from logitbank.pipeline.teacher.accuracy import clean_accuracy, require_expected_top1
from logitbank.pipeline.teacher.manifest import device_name, raw_manifest
from logitbank.pipeline.teacher.probe import probe_pixels, teacher_probe
from logitbank.pipeline.teacher.settings import CacheSettings, Precision
from logitbank.pipeline.teacher.soundness import require_same_teacher, require_sound_teacher
from logitbank.pipeline.teacher.task import TeacherTask

__all__ = [
    "CacheSettings",
    "Precision",
    "TeacherTask",
    "clean_accuracy",
    "device_name",
    "probe_pixels",
    "raw_manifest",
    "require_expected_top1",
    "require_same_teacher",
    "require_sound_teacher",
    "teacher_probe",
]
