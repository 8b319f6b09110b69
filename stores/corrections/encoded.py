"""Corrections of encoded rows: on the codes where they allow it, else decoded and encoded again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.corrections.bad_rows import BadRowError
from logitbank.stores.corrections.correction import Correction
from logitbank.stores.encodings import Encoding, LogitOutOfRangeError
from logitbank.stores.errors import LogitbankError

RowCorrector = Callable[[NDArray[Any], NDArray[Any], NDArray[np.int32]], None]
"""Corrects (B, C) codes or logits and (B, K) `top` of (B,) labels in place."""


@dataclass(frozen=True)
class EncodedCorrection:
    """A correction as it acts on rows of C classes in an encoding.

    `on_codes` names the array whose codes it corrects; None where it corrects decoded rows, since
    no array has codes to move or since it changes values and they stand for others.
    """

    correction: Correction
    encoding: Encoding
    on_codes: str | None
    arrays: tuple[str, ...]

    @classmethod
    def of(cls, correction: Correction, encoding: Encoding, classes: int) -> EncodedCorrection:
        """Find out which arrays of an encoding a correction reads and changes, beside `top`."""
        arrays = {array.name: array for array in encoding.arrays(classes)}
        name = encoding.codes_move
        if name is None or not correction.acts_on(arrays[name].dtype):
            return cls(correction, encoding, None, tuple(arrays))
        return cls(correction, encoding, name, (name,))

    def __call__(
        self,
        codes: Mapping[str, NDArray[Any]],
        top: NDArray[Any],
        target: NDArray[np.int32],
        correct: RowCorrector | None = None,
    ) -> None:
        """Correct rows in place; right rows stay as they are, bit for bit.

        Args:
            codes: for each of `arrays` its (B, ...) rows, C-contiguous.
            top: (B, K) uint8 or uint16, corrected along.
            target: (B,) labels.
            correct: what corrects dense rows, as on a device; the correction itself where None.

        Raises:
            BadRowError: a row has a NaN, or names a class that there is not; what was given is
                then undefined.
            LogitbankError: a correction of values gives what can't be encoded.
        """
        correct = correct or self.correction
        if self.on_codes is not None:
            correct(codes[self.on_codes], top, target)
            return
        wrong = np.flatnonzero(top[:, 0] != target)
        if not len(wrong):
            return
        rows = self.encoding.decode({name: codes[name][wrong] for name in self.arrays})
        new_top = top[wrong]
        try:
            correct(rows, new_top, target[wrong])
        except BadRowError as error:
            raise BadRowError(int(wrong[error.row]), error.cause) from None
        try:
            again = self.encoding.encode(rows)
        except LogitOutOfRangeError as error:
            raise LogitbankError(f"{self.correction.name}: {error}") from error
        for name in self.arrays:
            codes[name][wrong] = again[name]
        top[wrong] = new_top
