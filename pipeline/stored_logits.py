"""A store's logits and order of classes, compared with the teacher that it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.inference import forward_logits
from logitbank.pipeline.models import LoadedModel, state_sha256
from logitbank.pipeline.teacher import CacheSettings, Precision, probe_pixels, teacher_probe
from logitbank.pipeline.teacher.probe import probe_difference, row_differences
from logitbank.pipeline.teacher.settings import PROBABILITIES
from logitbank.pipeline.teacher.soundness import require_sound_teacher
from logitbank.pipeline.views import Augmentation
from logitbank.stores.corrections import Correction, EncodedCorrection
from logitbank.stores.corrections.ranking import top_classes
from logitbank.stores.encodings import encoding_named
from logitbank.stores.errors import LogitbankError
from logitbank.stores.manifest import Manifest
from logitbank.stores.verify import Problem

# Tolerances as shares of a row's range, by precision: above what another device changes, and in
# float32 below what a scale that is off by one percent does.
LOGITS = {"float32": 3e-3, "tf32": 1e-2, "amp": 5e-2}
ORDER = {"float32": 1e-4, "tf32": 1e-2, "amp": 5e-2}

AGAIN = "its checksums hold, so it was written like this: cache again, into another --out"


@dataclass(frozen=True)
class StoredRows:
    """Rows of a unit as they are stored: (B, ...) codes of each array, and (B, K) `top`."""

    codes: Mapping[str, NDArray[Any]]
    top: NDArray[Any]


@dataclass(frozen=True)
class ComparedRows:
    """Rows of a store, and everything that determines what they should be.

    `exact` are the teacher's (B, C) float32 logits of them, `target` their (B,) labels,
    `correction` is the store's, None for a raw one.
    """

    stored: StoredRows
    exact: NDArray[np.float32]
    target: NDArray[np.int32]
    correction: Correction | None
    manifest: Manifest

    @property
    def exact_top(self) -> NDArray[Any]:
        """The (B, K) largest classes by the teacher's own logits."""
        return top_classes(self.exact, self.target, self.manifest.top_classes)


@dataclass(frozen=True)
class StoredTeacher:
    """A teacher that should be the one of a manifest, and where it runs.

    It computes in the precision, memory format and batch size that the manifest records.
    """

    model: LoadedModel
    manifest: Manifest
    device: str

    @property
    def settings(self) -> CacheSettings:
        """The settings that the manifest records."""
        identity = self.manifest.teacher
        return CacheSettings(
            views=self.manifest.views,
            batch_size=identity.batch_size,
            device=self.device,
            precision=Precision(
                amp=identity.precision == "amp",
                tf32=identity.precision == "tf32",
                channels_last=identity.memory_format == "channels_last",
            ),
            # Probabilities were accepted or refused when they were cached.
            accept=(PROBABILITIES,),
        )

    def problems(self, dataset: ImageDataset, augmentation: Augmentation) -> list[Problem]:
        """Return why this is another teacher than the manifest's, or not a usable one.

        Comparing rows with its own would then say nothing about the store's files.

        Raises:
            DatasetError: an image can't be read.
        """
        found = [Problem("zarr.json", cause, "none") for cause in self._identity_differences()]
        if found:
            return found
        seed = self.manifest.augmentation.seed
        try:
            pixels = probe_pixels(dataset, augmentation, seed)
            require_sound_teacher(self.model, pixels, self.settings)
        except LogitbankError as error:
            return [Problem("zarr.json", f"can't be compared with a teacher: {error}", "none")]
        recorded = self.manifest.measured.probe
        if recorded is None:
            return []
        probe = teacher_probe(self.model, pixels, self.device)
        differs = probe_difference(probe, recorded)
        if differs is None:
            return []
        cause = (
            f"was begun by a teacher of these weights that answers otherwise: {differs}: its code, "
            "or a library that it computes with, is another one here"
        )
        return [Problem("zarr.json", cause, "none")]

    def logits(self, pixels: torch.Tensor) -> NDArray[np.float32]:
        """Return the (B, C) float32 logits of (B, S, S, 3) uint8 views."""
        settings = self.settings
        found = forward_logits(
            self.model,
            pixels,
            batch_size=settings.batch_size,
            device=settings.device,
            **asdict(settings.precision),
        )
        return found.cpu().numpy()

    def _identity_differences(self) -> Iterator[str]:
        identity, model = self.manifest.teacher, self.model
        weights = state_sha256(model.module)
        if identity.state_sha256 != weights:
            yield (
                f"names a teacher with weights {identity.state_sha256[:12]}, this one has "
                f"{weights[:12]}: it is another teacher, and its logits were not compared"
            )
        fed = (identity.mean, identity.std)
        if fed != (model.normalisation.mean, model.normalisation.std):
            yield (
                f"names a teacher of images normalised by mean {list(fed[0])} and std "
                f"{list(fed[1])}, this one takes {list(model.normalisation.mean)} and "
                f"{list(model.normalisation.std)}"
            )
        if identity.input_size != model.input_size:
            yield (
                f"names a teacher of images of {identity.input_size} pixels, this one takes "
                f"{model.input_size}"
            )


def logits_cause(rows: ComparedRows) -> tuple[int, str] | None:
    """Return which stored row differs from the teacher's logits, corrected as the store is.

    Returns:
        The place of the worst row and by how much it is off; None where each is near enough.
    """
    encoding = encoding_named(rows.manifest.encoding)
    again = encoding.encode(rows.exact)
    if rows.correction is not None:
        correct = EncodedCorrection.of(rows.correction, encoding, rows.exact.shape[1])
        correct(again, rows.exact_top, rows.target)
    worst = row_differences(encoding.decode(again), encoding.decode(rows.stored.codes))
    row = int(worst.argmax())
    if worst[row] <= LOGITS[rows.manifest.teacher.precision]:
        return None
    share = f"{100 * worst[row]:.1f}% of the row's range"
    return row, f"differs from the teacher's logits by {share} for"


def order_cause(rows: ComparedRows) -> tuple[int, str] | None:
    """Return which row of `top` is not the order of its logits.

    It is compared with the stored logits, whose order it must have exactly, and with the teacher's
    own, which distinguish what became equal in the encoding. The return value is that of
    `logits_cause`.
    """
    found = stored_order_cause(rows.stored, rows.manifest)
    if found is not None:
        return found
    exact = rows.exact
    if rows.correction is not None:
        exact = exact.copy()
        rows.correction(exact, rows.exact_top, rows.target)
    allowed = ORDER[rows.manifest.teacher.precision] * np.ptp(exact, axis=1)
    wrong = _disordered(exact, rows.stored.top, allowed)
    if len(wrong):
        return int(wrong[0]), "is not in the teacher's own order for"
    return None


def stored_order_cause(stored: StoredRows, manifest: Manifest) -> tuple[int, str] | None:
    """Return which row of `top` is not in the order of its stored logits, ties aside.

    Returns:
        As `logits_cause`, of the first such row.
    """
    codes = encoding_named(manifest.encoding).decode(stored.codes)
    wrong = _disordered(codes, stored.top, np.zeros(len(codes)))
    if len(wrong):
        return int(wrong[0]), "is not in the order of the stored logits for"
    return None


def _disordered(
    logits: NDArray[np.float32], top: NDArray[Any], allowed: NDArray[np.floating]
) -> NDArray[np.int64]:
    """Return the rows whose `top` is not the largest classes, each once, in falling order."""
    classes = logits.shape[1]
    order = top.astype(np.int64)
    is_class = (order < classes).all(axis=1)
    order = np.where(order < classes, order, 0)
    is_once = (np.diff(np.sort(order, axis=1), axis=1) > 0).all(axis=1)
    ranked = np.take_along_axis(logits, order, axis=1).astype(np.float64)
    falls = (np.diff(ranked, axis=1) <= allowed[:, None]).all(axis=1)
    others = logits.astype(np.float64)
    np.put_along_axis(others, order, -np.inf, axis=1)
    is_least = ranked[:, -1] >= others.max(axis=1) - allowed
    return np.flatnonzero(~(is_class & is_once & falls & is_least))
