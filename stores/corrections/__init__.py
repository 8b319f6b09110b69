"""Corrections of wrong rows, applied to the stored codes.

Sort and swap only move a row's values between classes, and each dense encoding is monotonic within
a row, so correcting the codes equals encoding the corrected row, as long as the true order is known
where codes tie: that is what `top` holds.
"""

from logitbank.stores.corrections.bad_rows import BadRowError
from logitbank.stores.corrections.correction import Correction
from logitbank.stores.corrections.encoded import EncodedCorrection, RowCorrector
from logitbank.stores.corrections.registry import (
    BUILT_IN,
    CORRECTIONS,
    correction_named,
    correction_of_manifest,
    register_correction,
)

__all__ = [
    "BUILT_IN",
    "CORRECTIONS",
    "BadRowError",
    "Correction",
    "EncodedCorrection",
    "RowCorrector",
    "correction_named",
    "correction_of_manifest",
    "register_correction",
]
