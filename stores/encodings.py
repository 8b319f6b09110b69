"""Encodings: how a row of float32 logits is kept in a store, and got back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.errors import LogitbankError, unknown_name


@dataclass(frozen=True)
class Encoding:
    """A dense encoding: C codes of one dtype a row, monotonic in the logits of the row."""

    name: str
    dtype: np.dtype[Any]

    def row_bytes(self, classes: int) -> int:
        """Give the stored bytes of a row of `classes` logits."""
        return classes * self.dtype.itemsize

    def encode(self, logits: NDArray[np.float32]) -> NDArray[Any]:
        """Encode (B, C) finite float32 logits.

        Raises:
            LogitOutOfRangeError: a logit is too large for the dtype; it has the row's number.
        """
        with np.errstate(over="ignore"):
            codes = logits.astype(self.dtype)
        bad = ~np.isfinite(codes).all(axis=1)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise LogitOutOfRangeError(row, float(np.abs(logits[row]).max()), self)
        return codes

    def decode(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """Give the (B, C) float32 logits of stored codes."""
        return codes.astype(np.float32)


class LogitOutOfRangeError(LogitbankError):
    """A logit that an encoding can't hold."""

    def __init__(self, row: int, value: float, encoding: Encoding) -> None:
        super().__init__(
            f"row {row} has a logit of magnitude {value:g}, more than {encoding.name} holds "
            f"({np.finfo(encoding.dtype).max:g}): use --encoding float32"
        )
        self.row = row


ENCODINGS = {
    name: Encoding(name, np.dtype(name).newbyteorder("<")) for name in ("float32", "float16")
}


def encoding_named(name: str) -> Encoding:
    """Look an encoding up.

    Raises:
        UsageError: there is no encoding of that name.
    """
    if name not in ENCODINGS:
        raise unknown_name("encoding", name, ENCODINGS)
    return ENCODINGS[name]
