"""Checks of a teacher before it is run over a dataset: a function of the image, to logits.

A store promises that a row depends on its image alone, and every loss takes rows for logits. A
network in training mode, with noise in it, or one that ends in a softmax silently breaks one of
these; a few images show it, before the first block.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from logitbank.pipeline.inference import forward_logits
from logitbank.pipeline.models import LoadedModel, state_sha256
from logitbank.pipeline.teacher.probe import require_probe, row_differences
from logitbank.pipeline.teacher.settings import ACCEPT, PROBABILITIES, CacheSettings
from logitbank.stores.errors import LogitbankError, StoreError
from logitbank.stores.manifest import Probe

# Tolerances as shares of a row's range. For one shape of batch a library computes a row in one way,
# whatever is beside it; for another shape it may round differently, in its precision.
SAME_SHAPE = {"float32": 1e-4, "tf32": 2e-3, "amp": 2e-3}
OTHER_SHAPE = {"float32": 1e-3, "tf32": 1e-2, "amp": 5e-2}
SUM_TOLERANCE = 1e-2


def require_sound_teacher(
    teacher: LoadedModel, pixels: torch.Tensor, settings: CacheSettings
) -> None:
    """Check that a teacher is a function of the image, whose values are logits.

    It is run twice on some images, the second time in another order and beside other images, and
    once more in batches of another size.

    Args:
        teacher: the network.
        pixels: (B, S, S, 3) uint8, views of a few images.
        settings: how it computes.

    Raises:
        LogitbankError: it doesn't return a row for each image; its logits change when it is run
            again, in another place, beside other images or in another size of batch; it changes its
            own state; a value is not finite; or its rows look like probabilities.
    """
    weights = state_sha256(teacher.module)
    configured = _Configured(teacher, settings)
    first = configured.logits(pixels)
    _require_finite(teacher, first)
    inverted = 255 - pixels
    mixed = configured.logits(torch.cat([inverted, pixels.flip(0)]))
    again, others = mixed[len(pixels) :][::-1], mixed[: len(pixels)]
    if (found := configured.difference(first, again, SAME_SHAPE)) is not None:
        raise LogitbankError(f"{teacher.spec} {_cause(configured, pixels, first)}: {found}")
    size = 3 if settings.batch_size != 3 else 2
    if (
        found := configured.difference(first, configured.logits(pixels, size), OTHER_SHAPE)
    ) is not None:
        raise LogitbankError(
            f"{teacher.spec} gives other logits in batches of {size} than of "
            f"{settings.batch_size}, and a teacher must be a function of the image alone: {found}"
        )
    if state_sha256(teacher.module) != weights:
        raise LogitbankError(
            f"{teacher.spec} changes its own weights or buffers while it runs, so that no two "
            "runs of it are the same: put every part of it into evaluation mode (batch norm counts "
            "and averages in training mode)"
        )
    if PROBABILITIES not in settings.accept:
        require_logits(teacher.spec, np.concatenate([first, others]))


def require_same_teacher(
    found: Probe,
    recorded: Probe,
    teacher: LoadedModel,
    pixels: torch.Tensor,
    settings: CacheSettings,
    where: str,
) -> None:
    """Check that a teacher has the probe of the one that began a store.

    One that differs may have other code, or may never return the same twice: it is tried before the
    code is blamed.

    Args:
        found: its probe.
        recorded: the store's probe.
        teacher: the network.
        pixels: views of a few images, to try it on.
        settings: how it computes.
        where: the store.

    Raises:
        LogitbankError: as `require_sound_teacher`.
        StoreError: as `require_probe`.
    """
    try:
        require_probe(found, recorded, teacher.spec, where)
    except StoreError:
        require_sound_teacher(teacher, pixels, settings)
        raise


def require_logits(teacher: str, rows: NDArray[np.float32]) -> None:
    """Check that rows are not probabilities, or their logarithms.

    Args:
        teacher: its spec, for the message.
        rows: (B, C) finite float32.

    Raises:
        LogitbankError: they are one-hot, sum to one, lie from 0 to 1, or are log-probabilities.
    """
    is_unit = bool(((rows >= 0) & (rows <= 1)).all() and (rows.max(axis=1) > 0).all())
    values = rows.astype(np.float64)
    found = None
    if is_unit and np.isin(rows, (0, 1)).all():
        found = "zeros and ones, as from a decision (one-hot)"
    elif is_unit and (np.abs(values.sum(axis=1) - 1) < SUM_TOLERANCE).all():
        found = "probabilities that sum to one, as from a softmax"
    elif is_unit:
        found = "numbers from 0 to 1, as from a sigmoid"
    elif (rows <= 0).all() and (np.abs(np.exp(values).sum(axis=1) - 1) < SUM_TOLERANCE).all():
        found = "log-probabilities, as from a log_softmax"
    if found is not None:
        raise LogitbankError(
            f"{teacher} returns {found}, not logits (the first row begins "
            f"{', '.join(f'{value:.3g}' for value in rows[0, :4])}): use the network without its "
            f"last activation, or {ACCEPT} {PROBABILITIES} if they are intended as logits"
        )


@dataclasses.dataclass(frozen=True)
class _Configured:
    """A teacher with the settings that it computes with."""

    teacher: LoadedModel
    settings: CacheSettings

    def logits(self, pixels: torch.Tensor, batch_size: int | None = None) -> NDArray[np.float32]:
        """Return (B, C) logits."""
        found = forward_logits(
            self.teacher,
            pixels,
            batch_size=batch_size or self.settings.batch_size,
            device=self.settings.device,
            **dataclasses.asdict(self.settings.precision),
        )
        return found.cpu().numpy()

    def difference(
        self,
        first: NDArray[np.float32],
        again: NDArray[np.float32],
        tolerances: dict[str, float],
    ) -> str | None:
        """Describe where two answers about the same images differ most, None where they agree."""
        worst = row_differences(again, first)
        row = int(np.argmax(worst))
        if worst[row] <= tolerances[self.settings.precision.name]:
            return None
        place = int(np.argmax(np.nan_to_num(np.abs(first[row] - again[row]), nan=np.inf)))
        return (
            f"the logit of class {place} for sample {row} was {first[row, place]:g}, then "
            f"{again[row, place]:g}"
        )


def _require_finite(teacher: LoadedModel, rows: NDArray[np.float32]) -> None:
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise LogitbankError(
            f"the logits of sample {bad[0]}, view 0, are not finite: {teacher.spec} is broken, or "
            "overflows in its precision"
        )


def _cause(configured: _Configured, pixels: torch.Tensor, first: NDArray[np.float32]) -> str:
    """Return why a teacher's logits changed in another order and beside other images."""
    if configured.difference(first, configured.logits(pixels), SAME_SHAPE) is not None:
        return (
            "gives other logits each time it is run on the same images, and a teacher must be "
            "a function of the image: switch dropout and noise off, and give it no memory of "
            "earlier calls (functional dropout takes training=self.training)"
        )
    # The very same images in one full batch, so that only their places differ.
    full = pixels[torch.arange(configured.settings.batch_size) % len(pixels)]
    turned = configured.logits(full.flip(0))[::-1]
    if configured.difference(configured.logits(full), turned, SAME_SHAPE) is not None:
        return (
            "gives other logits for an image in another place of the batch, and a teacher must be "
            "a function of the image alone"
        )
    return (
        "gives other logits for an image beside other images, and a teacher must be a function of "
        "the image alone: usual causes are batch norm in training mode or without running "
        "statistics, and means or attention over the batch"
    )
