"""Opening what a job's arguments name: datasets and models, each with the other's defaults."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logitbank.pipeline.datasets import ImageDataset
    from logitbank.pipeline.models import LoadedModel


def open_samples(options: argparse.Namespace) -> ImageDataset:
    """Open the samples that `add_dataset_arguments` declares: `--limit` cuts them."""
    from logitbank.pipeline.datasets import open_dataset, require_two_classes

    dataset = open_dataset(options.dataset, options.split, download=options.download)
    dataset = dataset if options.limit is None else dataset.head(options.limit)
    require_two_classes(dataset)
    return dataset


def open_device(name: str | None) -> str:
    """Name the device to compute on: CUDA's where there is one and none is asked for.

    Raises:
        UsageError: torch knows no such device, or the machine has none.
    """
    from logitbank.pipeline.devices import usable_device

    return str(usable_device(name))


def open_model(spec: str, dataset: ImageDataset, *, pretrained: bool) -> LoadedModel:
    """Load a model for a dataset, whose classes, normalisation and image size are its defaults.

    Args:
        spec: KIND:NAME[@WEIGHTS].
        dataset: what it is to be run on.
        pretrained: whether it must come with weights.
    """
    from logitbank.pipeline.models import load_model_for

    return load_model_for(spec, dataset, pretrained=pretrained)
