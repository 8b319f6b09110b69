"""Opening the datasets and models that a job's arguments name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from logitbank.stores.errors import UsageError

if TYPE_CHECKING:
    from logitbank.pipeline.datasets import ImageDataset
    from logitbank.pipeline.models import LoadedModel


PARENT_HELP = "the parent of a virtual store, if it has moved"


def open_samples(
    spec: str, split: str, *, limit: int | None = None, download: bool = False
) -> ImageDataset:
    """Open the samples that the flags of `add_dataset_arguments` name, the first `limit` of them.

    Raises:
        UsageError: the dataset has fewer than two classes.
    """
    from logitbank.pipeline.datasets import open_dataset, require_two_classes

    dataset = open_dataset(spec, split, download=download)
    dataset = dataset if limit is None else dataset.head(limit)
    require_two_classes(dataset)
    return dataset


def add_allowance_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--allow-correction`."""
    parser.add_argument(
        "--allow-correction",
        nargs="+",
        default=[],
        metavar="NAME",
        help="allow stores corrected by import:MODULE:NAME to import this code",
    )


def parents_of(
    locations: Sequence[str], given: Sequence[str] | None, *, named: str = "--soft-labels"
) -> list[str | None]:
    """Return the parent of each store, None for stores that are not virtual.

    Args:
        locations: the stores.
        given: the parents of the virtual stores, in order; None to find each by its manifest.
        named: what error messages call the stores.

    Raises:
        UsageError: the number of parents is not that of virtual stores.
        StoreError: a store's manifest can't be read.
    """
    if given is None:
        return [None] * len(locations)
    from logitbank.stores.documents import read_manifest
    from logitbank.stores.files import files_at

    kinds = [read_manifest(files_at(location)).kind for location in locations]
    virtual = kinds.count("virtual")
    if virtual != len(given):
        raise UsageError(
            f"--parent names the parents of virtual stores, one for each: {virtual} of "
            f"{named} are virtual, {len(given)} given"
        )
    parents = iter(given)
    return [next(parents) if kind == "virtual" else None for kind in kinds]


def open_device(name: str | None) -> str:
    """Return the device to compute on: the one asked for, else CUDA if available, else the CPU.

    Raises:
        UsageError: torch does not know the device, or the machine does not have it.
    """
    from logitbank.pipeline.devices import usable_device

    return str(usable_device(name))


def open_model(spec: str, dataset: ImageDataset, *, pretrained: bool) -> LoadedModel:
    """Load a model; classes, normalisation and image size default to the dataset's.

    Args:
        spec: KIND:NAME[@WEIGHTS].
        dataset: the dataset that it will be run on.
        pretrained: whether it must come with weights.
    """
    from logitbank.pipeline.models import load_model_for

    return load_model_for(spec, dataset, pretrained=pretrained)
