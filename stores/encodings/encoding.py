"""The interface of encodings: frozen dataclasses whose fields are their parameters."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.encodings.codecs import Zstd
from logitbank.stores.errors import LogitbankError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class RowArray:
    """An array of a store that holds a part of each row, indexed by view and sample first.

    `inner` is the shape of one row's part, and `dimensions` names its axes. Chunks have one fixed
    size unless there is a `compressor`.
    """

    name: str
    inner: tuple[int, ...]
    dtype: np.dtype[Any]
    dimensions: tuple[str, ...]
    compressor: Zstd | None = None


class Encoding(ABC):
    """A way to store rows of C logits.

    Subclasses are frozen dataclasses. Their fields, each with a default and its bounds (pydantic's
    `Field`), are the parameters in the text form `NAME:parameter=value,...`, which `str` returns,
    `encoding_named` parses, and a manifest keeps.

    `codes_move` names the (B, C) array whose codes follow the order of the logits within each row,
    so that sort and swap may move them between classes. It is None if there is no such array, and
    corrections act on decoded rows, which are then encoded again.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    codes_move: ClassVar[str | None]

    @abstractmethod
    def arrays(self, classes: int) -> tuple[RowArray, ...]:
        """Return the arrays that hold rows of `classes` logits, in the order they are written.

        The last one is the ledger: a unit counts as written once its chunk there is.
        """

    @abstractmethod
    def encode(self, logits: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Encode (B, C) float32 logits into the (B, ...) rows of each array, by its name.

        Raises:
            LogitOutOfRangeError: a logit can't be encoded; `row` is its row.
        """

    @abstractmethod
    def decode(self, codes: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Return the (B, C) float32 logits of (B, ...) rows of each array."""

    @abstractmethod
    def decode_tensors(self, codes: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the (B, C) float32 logits of gathered rows, on their device, as `decode` does."""

    def row_bytes(self, classes: int) -> int:
        """Return the bytes of an encoded row of `classes` logits, before any compression."""
        return sum(math.prod(array.inner) * array.dtype.itemsize for array in self.arrays(classes))

    def __str__(self) -> str:
        """Return the text form, with every parameter."""
        # Subclasses are dataclasses, though this class is not.
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        values = ",".join(f"{field.name}={getattr(self, field.name)}" for field in fields)
        return f"{self.name}:{values}" if values else self.name

    def describe(self, classes: int) -> str:
        """Return a line that describes the encoding and what a row takes.

        >>> from logitbank.stores.encodings import encoding_named
        >>> encoding_named("float16").describe(1000)
        'float16 (half precision, 2,000 bytes a row in logits)'
        """
        arrays = self.arrays(classes)
        names = ", ".join(array.name for array in arrays)
        compressed = any(array.compressor is not None for array in arrays)
        size = f"{self.row_bytes(classes):,} bytes a row in {names}"
        return f"{self} ({self.summary}, {size}{', before compression' if compressed else ''})"


class LogitOutOfRangeError(LogitbankError):
    """A logit that an encoding can't represent; `row` is its row, counted from the first passed."""

    def __init__(self, row: int, value: float, encoding: str, largest: float) -> None:
        super().__init__(
            f"row {row} has a logit of magnitude {value:g}, more than {encoding} holds "
            f"({largest:g}): use --encoding float32"
        )
        self.row = row
