"""The settings of a run of the teacher stage."""

from __future__ import annotations

from dataclasses import dataclass

from logitbank.pipeline.bounds import Count, NonNegativeInt, Seed, check_fields
from logitbank.stores.encodings import DEFAULT_ENCODING
from logitbank.stores.errors import unknown_name

ACCEPT = "--accept"
PROBABILITIES, CLASS_ORDER = "probabilities", "class-order"
ACCEPTED = (PROBABILITIES, CLASS_ORDER)
"""What a teacher is refused for, unless the user accepts it."""


@dataclass(frozen=True)
class Precision:
    """How a network computes: all off is plain float32, the default."""

    amp: bool = False
    tf32: bool = False
    channels_last: bool = False

    @property
    def name(self) -> str:
        """Its name in manifests."""
        return "amp" if self.amp else "tf32" if self.tf32 else "float32"

    @property
    def memory_format(self) -> str:
        """The memory format's name in manifests."""
        return "channels_last" if self.channels_last else "contiguous"


@dataclass(frozen=True)
class CacheSettings:
    """What is cached and how.

    `views` is V; `batch_size` the rows of each forward pass; `block_rows` the rows of a chunk, None
    for about 32 MiB of them; `workers` the threads that render image files; `views_per_decode` how
    many views of an image file are made, at most, each time it is decoded. `accept` names those of
    `ACCEPTED` that are intended.

    Raises:
        UsageError: an invalid value, such as an unknown name in `accept`.
    """

    views: Count
    seed: Seed = 0
    encoding: str = DEFAULT_ENCODING
    batch_size: Count = 256
    block_rows: Count | None = None
    device: str = "cpu"
    precision: Precision = Precision()
    workers: NonNegativeInt = 2
    views_per_decode: Count = 8
    accept: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        for name in self.accept:
            if name not in ACCEPTED:
                raise unknown_name(f"name for {ACCEPT}", name, ACCEPTED)
