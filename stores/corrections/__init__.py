"""Corrections of wrong rows, on the codes as they are stored.

Ours only move a row's values between classes, and each dense encoding is monotonic within a row, so
correcting codes equals encoding the corrected row, given the true order where codes tie: that is
what `top` holds.
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
