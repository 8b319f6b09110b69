"""Encodings for tests alone, which nothing but the registry may know, and all that there are.

`RowRange` keeps codes and what they stand for in arrays of its own names, with compressed chunks;
`BytePlanes` has no codes that a correction could move, so that its rows are decoded for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from logitbank.stores.encodings import ENCODINGS, Encoding, RowArray, encoding_named
from logitbank.stores.encodings.codecs import Zstd
from logitbank.stores.encodings.floats import rounded


@dataclass(frozen=True)
class RowRange(Encoding):
    """uint8 codes, even steps over the row's range, which is kept beside them."""

    name: ClassVar[str] = "row-range"
    summary: ClassVar[str] = "even steps over each row's range"
    codes_move: ClassVar[str | None] = "step"
    steps: Annotated[int, Field(ge=2, le=256)] = 256

    def arrays(self, classes: int) -> tuple[RowArray, ...]:
        bounds = RowArray("row_range", (2,), np.dtype("<f4"), ("bound",))
        return (bounds, RowArray("step", (classes,), np.dtype("u1"), ("class",), Zstd()))

    def encode(self, logits: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        exact = rounded(logits, np.dtype("<f4"))
        low, high = exact.min(axis=1, keepdims=True), exact.max(axis=1, keepdims=True)
        size = (high - low) / np.float32(self.steps - 1)
        steps = np.round((exact - low) / np.where(size == 0, np.float32(1), size))
        return {"row_range": np.hstack([low, size]), "step": steps.astype(np.uint8)}

    def decode(self, codes: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        low, size = codes["row_range"][:, :1], codes["row_range"][:, 1:]
        return codes["step"].astype(np.float32) * size + low

    def decode_tensors(self, codes: Mapping[str, torch.Tensor]) -> torch.Tensor:
        low, size = codes["row_range"][:, :1], codes["row_range"][:, 1:]
        return codes["step"].float() * size + low


@dataclass(frozen=True)
class BytePlanes(Encoding):
    """float16 in two planes of bytes, the upper ones compressed."""

    name: ClassVar[str] = "byte-planes"
    summary: ClassVar[str] = "half precision in two planes"
    codes_move: ClassVar[str | None] = None

    def arrays(self, classes: int) -> tuple[RowArray, ...]:
        byte = np.dtype("u1")
        return (
            RowArray("upper", (classes,), byte, ("class",), Zstd(level=1)),
            RowArray("lower", (classes,), byte, ("class",)),
        )

    def encode(self, logits: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        bits = rounded(logits, np.dtype("<f2")).view("<u2")
        return {"upper": (bits >> 8).astype("u1"), "lower": (bits & 255).astype("u1")}

    def decode(self, codes: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        bits = codes["upper"].astype("<u2") << 8 | codes["lower"]
        return bits.view("<f2").astype(np.float32)

    def decode_tensors(self, codes: Mapping[str, torch.Tensor]) -> torch.Tensor:
        bits = codes["upper"].to(torch.int16) << 8 | codes["lower"].to(torch.int16)
        return bits.view(torch.float16).float()


OF_TESTS = (RowRange, BytePlanes)
ENCODINGS_TESTED = (*ENCODINGS, *(kind.name for kind in OF_TESTS))
"""The names of every encoding there is; those of tests are known within `encodings_of_tests`."""


@contextmanager
def encodings_of_tests() -> Iterator[None]:
    """Let the registry know the encodings of tests, until the end of a `with` block."""
    for kind in OF_TESTS:
        ENCODINGS[kind.name] = kind
    try:
        yield
    finally:
        for kind in OF_TESTS:
            del ENCODINGS[kind.name]


def text_of(name: str) -> str:
    """Return an encoding's text form, as a manifest has it."""
    return str(encoding_named(name))
