"""The accuracy of a network on centre crops."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from logitbank.pipeline.datasets import ImageDataset
from logitbank.pipeline.inference import forward_logits
from logitbank.pipeline.models import LoadedModel
from logitbank.pipeline.read_ahead import read_ahead
from logitbank.pipeline.views import Center
from logitbank.pipeline.views.rendering.renderer import ViewRenderer
from logitbank.stores.errors import DatasetError

_BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Accuracy:
    """Top-1 and top-5 in percent, over this many samples."""

    top1: float
    top5: float
    samples: int


def centre_crops(model: LoadedModel) -> Center:
    """Return the augmentation that a network is evaluated under: its own size and resizing."""
    return Center(model.input_size, model.resize or "auto", model.interpolation or "bilinear")


def evaluate(
    model: LoadedModel,
    dataset: ImageDataset,
    *,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    amp: bool = False,
    tf32: bool = False,
    channels_last: bool = False,
    samples: NDArray[np.int64] | None = None,
    on_logits: Callable[[torch.Tensor], None] = lambda logits: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Accuracy:
    """Measure a network on one centre crop of each image.

    A prediction is right where the label attains the maximum; top-5 counts the rank of the label,
    by value descending, then by class ascending.

    Args:
        model: left in the mode it is in.
        dataset: the images, whose targets are classes of the model.
        batch_size: rows of each forward pass.
        device: where the network runs.
        workers: threads that decode and resize, by default one for each core.
        amp: mixed precision.
        tf32: whether CUDA may compute float32 in TF32.
        channels_last: whether to compute in that memory format.
        samples: the (M,) samples to measure on, by default all.
        on_logits: called with the (B, C) logits of each batch, in the order of the samples.
        progress: called with the images done and their number.

    Raises:
        DatasetError: an image can't be read, or is too small for a crop, or its label is not a
            class of the model.
    """
    samples = np.arange(len(dataset)) if samples is None else samples
    _require_classes(model, dataset, samples)
    precision = {"amp": amp, "tf32": tf32, "channels_last": channels_last}
    ranks: list[torch.Tensor] = []
    parts = [samples[i : i + batch_size] for i in range(0, len(samples), batch_size)]
    for part, pixels in zip(parts, _crops(model, dataset, parts, workers), strict=True):
        logits = forward_logits(model, pixels, batch_size=batch_size, device=device, **precision)
        on_logits(logits)
        targets = torch.from_numpy(dataset.targets[part].astype(np.int64))
        ranks.append(label_ranks(logits, targets.to(logits.device)).cpu())
        progress(sum(map(len, ranks)), len(samples))
    return _accuracy(torch.cat(ranks))


def label_ranks(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the rank of each row's label, 0 where it attains the maximum.

    Args:
        logits: (B, C) floating.
        targets: (B,) int64.

    Returns:
        (B,) int64: how many classes come before the label, by value descending, then class
        ascending; 0 for a label that ties for the maximum. NaN counts as above everything.
    """
    label = logits.gather(1, targets[:, None])
    above = (~(logits <= label)).sum(dim=1)
    is_before = torch.arange(logits.shape[1], device=logits.device) < targets[:, None]
    tied = ((logits == label) & is_before).sum(dim=1)
    return torch.where(above == 0, 0, above + tied)


def _crops(
    model: LoadedModel, dataset: ImageDataset, parts: list[NDArray[np.int64]], workers: int | None
) -> Iterator[torch.Tensor]:
    """Yield the (B, S, S, 3) centre crops of each part, rendered ahead of time."""
    with ThreadPoolExecutor(workers or os.cpu_count(), thread_name_prefix="render") as pool:
        renderer = ViewRenderer(dataset, centre_crops(model), pool=pool)
        yield from read_ahead((renderer.draw(0, 0, part)[0] for part in parts), _BATCHES_AHEAD)


def _require_classes(model: LoadedModel, dataset: ImageDataset, samples: NDArray[np.int64]) -> None:
    beyond = samples[dataset.targets[samples] >= model.classes]
    if len(beyond):
        sample = int(beyond[0])
        raise DatasetError(
            f"{dataset.where(sample)} has class {dataset.targets[sample]}, but {model.spec} "
            f"has {model.classes} classes, counted from 0"
        )


def _accuracy(ranks: torch.Tensor) -> Accuracy:
    def share(below: int) -> float:
        return 100 * int((ranks < below).sum()) / len(ranks)

    return Accuracy(share(1), share(5), len(ranks))
