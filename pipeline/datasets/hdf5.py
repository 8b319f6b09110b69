"""Images from an HDF5 file: `images` (N, H, W, 3) uint8, `labels` (N,), names in `classes`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from logitbank.pipeline.datasets.image_dataset import class_names
from logitbank.pipeline.datasets.memory import MemoryDataset
from logitbank.stores.errors import DatasetError


def hdf5(location: Path, split: str) -> MemoryDataset:
    """Read one split into memory.

    Args:
        location: a file, which is then the split that is asked for; or a folder that holds
            `train.h5`, `test.h5` or both.
        split: `train` or `test`.

    The class names are the file's attribute `classes`; without it, the numbers up to the largest
    label.

    Raises:
        DatasetError: a file that is missing, damaged, or laid out otherwise.
    """
    import h5py  # Only this dataset needs it.

    path = location / f"{split}.h5" if location.is_dir() else location
    if not path.is_file():
        hint = f": the folder has no {split} split" if location.is_dir() else ""
        raise DatasetError(f"hdf5:{location}: {path} is not a file{hint}")
    try:
        with h5py.File(path, "r") as file:
            images = _member(file, "images", path)[...]
            targets = _member(file, "labels", path)[...]
            names = class_names(file.attrs.get("classes"), targets)
    except OSError as error:
        raise DatasetError(f"{path}: can't be read as HDF5: {error}") from error
    return MemoryDataset("hdf5", split, images, targets, names, str(path))


def hdf5_has_split(location: Path, split: str) -> bool:
    """Say whether there is a split of this name; a single file counts as the training split."""
    if location.is_dir():
        return (location / f"{split}.h5").is_file()
    return split == "train" and location.is_file()


def _member(file: Any, name: str, path: Path) -> Any:
    member = file.get(name)
    if not hasattr(member, "dtype"):
        raise DatasetError(f"{path}: has no dataset {name!r} (found: {', '.join(file) or 'none'})")
    return member
