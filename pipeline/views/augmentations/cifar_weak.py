"""`cifar-weak`: pad with zeros, crop at random, flip at random; every outcome once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from logitbank.pipeline.views.augmentation import (
    MAX_PAD,
    MAX_SIZE,
    check_views,
    require_sides,
    require_whole,
    require_yes_or_no,
)
from logitbank.pipeline.views.augmentations.crops import padded_crop
from logitbank.pipeline.views.draws import Stream, permutations, words
from logitbank.stores.errors import PixelError

_SAMPLES_AT_A_TIME = 1024
_TABLE_BYTES = 2**28


@dataclass(frozen=True)
class CifarWeak:
    """Pad a square image by `pad` zeros on each side, crop `size` at random, flip at random.

    With P = 2 * pad + 1 offsets along each axis there are P * P outcomes, twice as many with the
    flip: 162 at pad 4. They are numbered flip * P * P + dy * P + dx, where (dy, dx) is the crop's
    top left corner in the padded image and the flip (left to right) comes after the crop. View v of
    a sample is element v of a permutation of these numbers: the stable argsort of as many words of
    the generator, drawn for (sample, view 0, CIFAR_WEAK). So views are drawn without replacement.

    Raises:
        UsageError: a parameter out of range.
    """

    size: int = 32
    pad: int = 4
    flip: bool = True
    name: ClassVar[str] = "cifar-weak"
    columns: ClassVar[tuple[str, ...]] = ("dy", "dx", "flip")
    dtype: ClassVar[Literal["int16", "int32"]] = "int16"

    def __post_init__(self) -> None:
        require_whole(self.size, "size of cifar-weak", 1, MAX_SIZE)
        require_whole(self.pad, "pad of cifar-weak", 0, MAX_PAD)
        require_yes_or_no(self.flip, "flip of cifar-weak")

    @property
    def parameters(self) -> dict[str, bool | int | float | str]:
        """All parameters by name."""
        return asdict(self)

    @property
    def offsets(self) -> int:
        """How many places the crop has along each axis."""
        return 2 * self.pad + 1

    @property
    def count(self) -> int:
        """The number of different views: 162 at pad 4 with flips."""
        return self.offsets**2 * (1 + self.flip)

    def draw(self, seed: int, samples: ArrayLike, view: int, sizes: ArrayLike) -> NDArray[np.int16]:
        """Draw dy, dx and flip of one view of each sample: (B, 3) int16.

        Raises:
            DatasetError: images that are not square and of the augmentation's size.
            UsageError: there is no such view.
        """
        self.require_sizes(sizes)
        check_views(self, view + 1)
        return self.params_of(self.outcomes(seed, samples, view, view + 1)[:, 0])

    def outcomes(self, seed: int, samples: ArrayLike, start: int, stop: int) -> NDArray[Any]:
        """Return the outcomes of views start to stop - 1: (B, stop - start), the smallest uint."""
        samples = np.asarray(samples)
        drawn = np.empty((len(samples), stop - start), self.outcome_dtype)
        for first in range(0, len(samples), _SAMPLES_AT_A_TIME):
            part = slice(first, first + _SAMPLES_AT_A_TIME)
            random = words(seed, samples[part], 0, Stream.CIFAR_WEAK, self.count)
            drawn[part] = permutations(random)[:, start:stop]
        return drawn

    @property
    def outcome_dtype(self) -> np.dtype[Any]:
        """The smallest unsigned dtype that numbers all outcomes: uint8 at pad 4."""
        return np.min_scalar_type(self.count - 1)

    def params_of(self, outcomes: NDArray[Any]) -> NDArray[np.int16]:
        """Turn (B,) outcomes into (B, 3) int16: dy, dx, flip."""
        flip, place = np.divmod(outcomes.astype(np.int32), self.offsets**2)
        dy, dx = np.divmod(place, self.offsets)
        return np.stack([dy, dx, flip], axis=1).astype(np.int16)

    def render(self, image: NDArray[np.uint8], params: NDArray[Any]) -> NDArray[np.uint8]:
        """Pad, crop and flip one image."""
        self.require_sizes([image.shape[:2]])
        self.require_params(params[None])
        dy, dx, flip = map(int, params)
        crop = padded_crop(image, self.pad, (dy, dx), self)
        return np.ascontiguousarray(crop[:, ::-1] if flip else crop)

    def require_sizes(self, sizes: ArrayLike) -> None:
        """Raise DatasetError unless sizes are square and the augmentation's own."""
        require_sides(sizes, self)

    def require_params(self, params: NDArray[Any]) -> None:
        """Raise PixelError unless the augmentation can draw these (B, 3) parameters."""
        highest = np.array([2 * self.pad, 2 * self.pad, int(self.flip)])
        wrong = params[((params < 0) | (params > highest)).any(axis=1)]
        if len(wrong):
            raise PixelError(
                f"view parameters dy, dx, flip = {wrong[0].tolist()} are outside what cifar-weak "
                f"draws: 0 to {highest.tolist()}"
            )


class PermutationTable:
    """The outcomes of all views of all samples under one seed, drawn once and kept.

    A table of N x 162 bytes (8 MB for CIFAR-100), filled as it is used, makes drawing view after
    view cost next to nothing. It is cut to the first views that fit `table_bytes`; those beyond are
    drawn anew each time. Threads may share it.
    """

    def __init__(
        self, augmentation: CifarWeak, seed: int, samples: int, table_bytes: int = _TABLE_BYTES
    ) -> None:
        dtype = augmentation.outcome_dtype
        kept = min(augmentation.count, table_bytes // (samples * dtype.itemsize))
        self._augmentation = augmentation
        self.seed = seed
        self._outcomes = np.empty((samples, kept), dtype)
        self._is_drawn = np.zeros(-(-samples // _SAMPLES_AT_A_TIME), bool)

    def draw(self, samples: NDArray[np.int64], view: int) -> NDArray[np.int16]:
        """Draw one view of each sample, as `CifarWeak.draw` does: (B, 3) int16.

        Raises:
            UsageError: there is no such view.
        """
        check_views(self._augmentation, view + 1)
        if view >= self._outcomes.shape[1]:
            outcomes = self._augmentation.outcomes(self.seed, samples, view, view + 1)[:, 0]
            return self._augmentation.params_of(outcomes)
        blocks = np.unique(samples // _SAMPLES_AT_A_TIME)
        for block in blocks[~self._is_drawn[blocks]]:
            self._fill(int(block))
        return self._augmentation.params_of(self._outcomes[samples, view])

    def _fill(self, block: int) -> None:
        samples, kept = self._outcomes.shape
        start = block * _SAMPLES_AT_A_TIME
        stop = min(start + _SAMPLES_AT_A_TIME, samples)
        drawn = self._augmentation.outcomes(self.seed, np.arange(start, stop), 0, kept)
        self._outcomes[start:stop] = drawn
        # Marked last: another thread may fill the same block meanwhile, with the same values.
        self._is_drawn[block] = True
