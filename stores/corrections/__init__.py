"""Corrections of wrong rows, on the codes as they are stored.

They only move a row's values between classes, and each dense encoding is monotonic within a row, so
correcting codes equals encoding the corrected row, given the true order where codes tie: that is
what `top` holds.
"""

from logitbank.stores.corrections.bad_rows import BadRowError
from logitbank.stores.corrections.correction import Correction
from logitbank.stores.corrections.kernels import sort_rows, swap_rows
from logitbank.stores.errors import unknown_name

CORRECTIONS: dict[str, Correction] = {
    "sort": Correction("sort", sort_rows),
    "swap": Correction("swap", swap_rows),
}


def correction_named(name: str) -> Correction:
    """Look a correction up.

    Raises:
        UsageError: there is no correction of that name.
    """
    if name not in CORRECTIONS:
        raise unknown_name("correction", name, CORRECTIONS)
    return CORRECTIONS[name]


__all__ = ["CORRECTIONS", "BadRowError", "Correction", "correction_named"]
