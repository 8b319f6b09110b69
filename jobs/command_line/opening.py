"""Opening what a job's arguments name: datasets and models, each with the other's defaults."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from logitbank.stores.errors import UsageError

if TYPE_CHECKING:
    from logitbank.pipeline.datasets import ImageDataset
    from logitbank.pipeline.models import LoadedModel


PARENT_HELP = "where the parent of a virtual store is, if it has moved"


def open_samples(
    spec: str, split: str, *, limit: int | None = None, download: bool = False
) -> ImageDataset:
    """Open the samples that the flags of `add_dataset_arguments` name: `limit` cuts them."""
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
        help="let a store that says it is corrected by import:MODULE:NAME import just that",
    )


def parents_of(
    locations: Sequence[str], given: Sequence[str] | None, *, named: str = "--soft-labels"
) -> list[str | None]:
    """Return the parent of each store: they are given in order, for virtual ones.

    Args:
        locations: the stores.
        given: the parents, None where they are looked for.
        named: what the stores are called in an error.

    Raises:
        UsageError: another number of parents than of virtual stores.
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
