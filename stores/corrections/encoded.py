"""Corrections of encoded rows: on the codes where possible, else decoded and encoded again."""

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
"""Corrects (B, C) codes or logits and (B, K) `top`, given (B,) labels, in place."""


@dataclass(frozen=True)
class EncodedCorrection:
    """A correction applied to rows of C classes in an encoding.

    `on_codes` names the array whose codes it corrects. It is None if decoded rows are corrected:
    no array has codes to move, or the correction changes values and the codes only stand for them.
    `arrays` are those that it reads and changes, besides `top`.
    """

    correction: Correction
    encoding: Encoding
    on_codes: str | None
    arrays: tuple[str, ...]

    @classmethod
    def of(cls, correction: Correction, encoding: Encoding, classes: int) -> EncodedCorrection:
        """Choose the arrays of an encoding that a correction acts on."""
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
            top: (B, K) uint8 or uint16, corrected too.
            target: (B,) labels.
            correct: corrects dense rows, for example on a device; the correction itself by default.

        Raises:
            BadRowError: a row has a NaN, or names a class that does not exist; the arrays are then
                undefined.
            LogitbankError: a correction that changes values returns some that can't be encoded.
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
