"""float16 and float32: the logits themselves, rounded to the dtype."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.encodings.encoding import Encoding, LogitOutOfRangeError, RowArray

if TYPE_CHECKING:
    import torch

LOGITS = "logits"


class _Floats(Encoding):
    """C floats of one dtype per row, in the order of the logits."""

    dtype: ClassVar[np.dtype[Any]]
    codes_move: ClassVar[str | None] = LOGITS

    def arrays(self, classes: int) -> tuple[RowArray, ...]:
        """Return the one array, (V, N, C)."""
        return (RowArray(LOGITS, (classes,), self.dtype, ("class",)),)

    def encode(self, logits: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Round (B, C) logits to the dtype.

        Raises:
            LogitOutOfRangeError: a logit is too large for it, or not finite.
        """
        return {LOGITS: rounded(logits, self.dtype)}

    def decode(self, codes: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the (B, C) logits in float32, in new memory."""
        return codes[LOGITS].astype(np.float32)

    def decode_tensors(self, codes: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the (B, C) logits in float32; float32 codes are returned as they are."""
        return codes[LOGITS].float()


@dataclass(frozen=True)
class Float16(_Floats):
    """IEEE half precision: 11 significant bits, magnitudes up to 65504."""

    name: ClassVar[str] = "float16"
    summary: ClassVar[str] = "half precision"
    dtype: ClassVar[np.dtype[Any]] = np.dtype("<f2")


@dataclass(frozen=True)
class Float32(_Floats):
    """The logits bit for bit."""

    name: ClassVar[str] = "float32"
    summary: ClassVar[str] = "the logits bit for bit"
    dtype: ClassVar[np.dtype[Any]] = np.dtype("<f4")


def rounded(logits: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round (B, C) float32 logits to a float dtype.

    Raises:
        LogitOutOfRangeError: a logit is too large for the dtype, or not finite.
    """
    with np.errstate(over="ignore"):
        codes = logits.astype(dtype)
    bad = ~np.isfinite(codes).all(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        value, largest = float(np.abs(logits[row]).max()), float(np.finfo(dtype).max)
        raise LogitOutOfRangeError(row, value, dtype.name, largest)
    return codes
