"""The correction stage: a corrected store from a raw one, block by block."""

from logitbank.pipeline.correct.manifest import corrected_manifest, wrong_rows
from logitbank.pipeline.correct.stage import row_corrector
from logitbank.pipeline.correct.task import CorrectionTask
from logitbank.pipeline.correct.virtual import write_virtual_store

__all__ = [
    "CorrectionTask",
    "corrected_manifest",
    "row_corrector",
    "write_virtual_store",
    "wrong_rows",
]
