"""Any map-style dataset of images as an `ImageDataset`, and `import:` specs that name one."""

from __future__ import annotations

import inspect
import operator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from logitbank.pipeline.datasets.image_dataset import (
    ImageDataset,
    checked_targets,
    class_names,
    fingerprint,
    head_count,
    pixel_ids,
)
from logitbank.pipeline.datasets.in_memory import MemoryDataset
from logitbank.pipeline.datasets.pillow_pixels import rgb_pixels
from logitbank.stores.errors import DatasetError
from logitbank.stores.importing import import_factory

# Items compared with a dataset's own targets whenever it is opened; each is decoded.
_COMPARED = 32


@dataclass(frozen=True, eq=False)
class MapStyleDataset:
    """An `ImageDataset` around a dataset whose items are (image, target, ...).

    An image is a Pillow image, or (H, W, 3) uint8. The attributes `targets`, `classes` and
    `sample_ids` of the wrapped dataset are used if it has them; otherwise all items are read once,
    when first needed.
    """

    dataset: Any
    split: str = "train"
    name: str = "import"
    source: str = "the dataset"
    limit: int | None = None
    images: None = field(default=None, init=False)

    def __len__(self) -> int:
        length = len(self.dataset)
        return length if self.limit is None else min(self.limit, length)

    def load(self, sample: int) -> tuple[NDArray[np.uint8], int]:
        """Return one image, (H, W, 3) uint8, and its target.

        Raises:
            DatasetError: the wrapped dataset fails, or returns anything else.
        """
        try:
            item = self.dataset[sample]
        except Exception as error:  # The user's code: whatever it raises, the sample is named.
            cause = f"{type(error).__name__}: {error}"
            raise DatasetError(f"{self.where(sample)}: can't be read: {cause}") from error
        if not isinstance(item, tuple | list) or len(item) < 2:
            found = type(item).__name__
            raise DatasetError(
                f"{self.where(sample)}: an item must be (image, target), not {found}"
            )
        return _image_array(item[0], self.where(sample)), _target(item[1], self.where(sample))

    def pixels(self, sample: int) -> NDArray[np.uint8]:
        """Return one image, (H, W, 3) uint8; raises as `load`."""
        return self.load(sample)[0]

    def where(self, sample: int) -> str:
        """Return what errors call an image."""
        return f"sample {sample} of {self.source}"

    def head(self, count: int) -> Self:
        """Return the first `count` samples."""
        return replace(self, limit=head_count(count, len(self)))

    @cached_property
    def targets(self) -> NDArray[np.int32]:
        """The (N,) int32 class of each sample."""
        found = self._own("targets")
        if found is None:
            found = self._one_pass[0][: self.limit]
        return checked_targets(found, len(self), len(self.classes), self.source)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; without any, the numbers up to the largest target of all."""
        found = getattr(self.dataset, "classes", None)
        targets = getattr(self.dataset, "targets", None)
        if found is None and targets is None:
            targets = self._one_pass[0]
        return class_names(found, targets, self.source)

    @cached_property
    def sample_ids(self) -> NDArray[np.uint64]:
        """The dataset's own (N,) uint64 ids, or the hashes of its pixel bytes.

        Raises:
            DatasetError: its own ids are not one whole number for each sample.
        """
        found = self._own("sample_ids")
        if found is None:
            return self._one_pass[1][: self.limit]
        if found.shape != (len(self),) or found.dtype.kind not in "iu":
            raise DatasetError(
                f"{self.source}: sample_ids must be {len(self)} whole numbers, "
                f"found shape {found.shape} of {found.dtype}"
            )
        return found.astype(np.uint64)

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 hex over ids and targets."""
        return fingerprint(self.sample_ids, self.targets)

    @property
    def has_cheap_ids(self) -> bool:
        """Whether `sample_ids` are known without reading every image."""
        return hasattr(self.dataset, "sample_ids") or "_one_pass" in vars(self)

    def _own(self, name: str) -> NDArray[Any] | None:
        found = getattr(self.dataset, name, None)
        return None if found is None else np.asarray(found)[: self.limit]

    @cached_property
    def _one_pass(self) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        """The target and the id of each item; of all if these determine the classes."""
        targets, ids = [], []
        own = self._own("targets")
        for sample in range(len(self) if hasattr(self.dataset, "classes") else len(self.dataset)):
            image, target = self.load(sample)
            if own is not None and sample < len(own):
                require_own_target(own[sample], target, self.where(sample))
            targets.append(target)
            ids.append(pixel_ids([image]))
        return np.array(targets, np.int64), np.concatenate(ids)

    def require_own_targets(self) -> None:
        """Compare the dataset's own `targets`, if it has any, with some of its items.

        All are compared if all items are read anyway, for their ids.

        Raises:
            DatasetError: they differ; or as `load`.
        """
        if self._own("targets") is not None:
            for sample in _evenly_spaced(len(self)):
                require_own_target(self.targets[sample], self.load(sample)[1], self.where(sample))


def require_own_target(own: Any, target: int, where: str) -> None:
    """Check that the target of an item is the one in its dataset's `targets`.

    Raises:
        DatasetError: it is not; the message begins with `where`.
    """
    if own != target:
        raise DatasetError(
            f"{where}: its item says class {target}, but the dataset's .targets say {own}: by a "
            "target_transform, or targets that were changed later? Let .targets be what the items "
            "say, or give a dataset without this attribute"
        )


def _evenly_spaced(count: int) -> list[int]:
    """Return evenly spaced samples out of `count`, the first and the last included."""
    return sorted(set(np.linspace(0, count - 1, _COMPARED).round().astype(int).tolist()))


def as_image_dataset(dataset: Any) -> ImageDataset:
    """Wrap a map-style dataset; return an `ImageDataset` as it is."""
    return dataset if hasattr(dataset, "pixels") else MapStyleDataset(dataset)


def imported(factory_name: str, split: str) -> MapStyleDataset | MemoryDataset:
    """Return the dataset of `factory(split=...)`, or of `factory()` if it takes no split.

    A factory that returns None has no such split; one that takes no split returns any split
    requested. A dataset with the attributes `images`, (N, H, W, 3) uint8, and `targets` is a
    dataset in memory.

    Raises:
        UsageError: there is no such factory.
        DatasetError: it fails, does not return a dataset, or has no such split; or the items of a
            dataset in memory have other classes than its attribute `targets`.
    """
    source = f"import:{factory_name}"
    dataset = _made(factory_name, split)
    if dataset is None:
        raise DatasetError(f"{source}: has no {split} split (the factory returned None)")
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise DatasetError(
            f"{source}: returned a {type(dataset).__name__}: expected a dataset with items "
            "and a length"
        )
    if not len(dataset):
        raise DatasetError(f"{source}: no images")
    images = getattr(dataset, "images", None)
    if isinstance(images, np.ndarray) and hasattr(dataset, "targets"):
        names = class_names(getattr(dataset, "classes", None), dataset.targets, source)
        memory = MemoryDataset("import", split, images, dataset.targets, names, source)
        _require_items(memory, dataset)
        return memory
    return MapStyleDataset(dataset, split, source=source)


def _require_items(memory: MemoryDataset, dataset: Any) -> None:
    """Compare a dataset in memory with some of its items, where these are its images.

    Items of another size serve another purpose.
    """
    for sample in _evenly_spaced(len(memory)):
        where = memory.where(sample)
        try:
            item = dataset[sample]
            target = _target(item[1], where)
        except Exception:  # The user's code, whose items nothing else needs.
            return
        try:
            image = _image_array(item[0], where)
        except DatasetError:  # Such as a tensor, from the dataset's own transform.
            image = memory.images[sample]
        if image.shape != memory.images[sample].shape:
            return
        require_own_target(memory.targets[sample], target, where)
        if not np.array_equal(image, memory.images[sample]):
            raise DatasetError(
                f"{where}: its item's image is not that of the dataset's .images: by a transform, "
                "or another order of colours? Give the dataset without its own transform, or "
                "without the attribute images"
            )


def imported_has_split(factory_name: str, split: str) -> bool:
    """Return whether the factory has a split of this name.

    One that takes no split counts as the training split.
    """
    if not _takes_split(import_factory(factory_name)):
        return split == "train"
    return _made(factory_name, split) is not None


def _made(factory_name: str, split: str) -> Any:
    factory = import_factory(factory_name)
    try:
        return factory(split=split) if _takes_split(factory) else factory()
    except Exception as error:  # The user's code may raise anything.
        cause = f"{type(error).__name__}: {error}"
        raise DatasetError(f"import:{factory_name} failed: {cause}") from error


def _takes_split(factory: Any) -> bool:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # Some callables written in C have none.
        return False
    return any(each.name == "split" or each.kind is each.VAR_KEYWORD for each in parameters)


def _target(target: Any, where: str) -> int:
    try:
        return operator.index(target)
    except TypeError:
        found = type(target).__name__
        raise DatasetError(f"{where}: a target must be a whole number, not {found}") from None


def _image_array(image: Any, where: str) -> NDArray[np.uint8]:
    if isinstance(image, Image.Image):
        try:
            return rgb_pixels(image)
        except Exception as error:  # Pillow's decoders raise many kinds on a damaged file.
            cause = str(error) or type(error).__name__
            raise DatasetError(f"{where}: can't be read as an image: {cause}") from error
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        if image.ndim == 3 and image.shape[2] == 3:
            return np.ascontiguousarray(image)
        raise DatasetError(f"{where}: an array must be (height, width, 3), found {image.shape}")
    shape = f" of shape {tuple(image.shape)}" if hasattr(image, "shape") else ""
    raise DatasetError(
        f"{where}: an image must be a Pillow image or a (height, width, 3) uint8 array, found "
        f"{type(image).__name__}{shape}: use the dataset without its own transform"
    )
