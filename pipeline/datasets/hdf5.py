"""Images from an HDF5 file: `images` (N, H, W, 3) uint8, `labels` (N,), names in `classes`."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.pipeline.datasets.image_dataset import checked_targets, class_names
from logitbank.pipeline.datasets.in_memory import MemoryDataset, require_layout
from logitbank.stores.errors import DatasetError

_FORM = "file.attrs['classes'] = ['cat', 'dog']"


def hdf5(location: Path, split: str) -> MemoryDataset:
    """Read one split into memory.

    Args:
        location: a file, which is taken as whichever split is requested; or a folder that holds
            `train.h5`, `test.h5` or both.
        split: `train` or `test`.

    The class names are the file's attribute `classes`, also as the text of a JSON list; without it,
    the numbers up to the largest label.

    Raises:
        DatasetError: the file is missing, damaged, incomplete, of another layout, or keeps its
            images in other files.
    """
    import h5py  # Only this dataset needs it.

    path = location / f"{split}.h5" if location.is_dir() else location
    if not path.is_file():
        hint = f": the folder has no {split} split" if location.is_dir() else ""
        raise DatasetError(f"hdf5:{location}: {path} is not a file{hint}")
    try:
        with h5py.File(path, "r") as file:
            members = {name: _member(file, name, path) for name in ("images", "labels")}
            require_layout(members["images"].shape, members["images"].dtype, str(path))
            targets = _content(members["labels"], path)
            names = class_names(_classes(file, path), targets, str(path))
            targets = checked_targets(targets, len(members["images"]), len(names), str(path))
            images = _content(members["images"], path)
    except DatasetError:
        raise
    except MemoryError:
        raise DatasetError(f"{path}: its images don't fit into memory") from None
    except Exception as error:  # A damaged file can raise nearly anything.
        cause = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(f"{path}: can't be read as HDF5: {cause}") from error
    return MemoryDataset("hdf5", split, images, targets, names, str(path))


def hdf5_has_split(location: Path, split: str) -> bool:
    """Return whether a split exists; a single file counts as the training split."""
    if location.is_dir():
        return (location / f"{split}.h5").is_file()
    return split == "train" and location.is_file()


def _member(file: Any, name: str, path: Path) -> Any:
    """Return a dataset of the file itself: a link may lead anywhere."""
    import h5py

    link = file.get(name, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        raise DatasetError(f"{path}: {name!r} is a link to {link.filename}: copy it into this file")
    member = file.get(name)
    if not isinstance(member, h5py.Dataset):
        raise DatasetError(f"{path}: has no dataset {name!r} (found: {', '.join(file) or 'none'})")
    if member.file.filename != file.filename or member.external or member.is_virtual:
        raise DatasetError(f"{path}: {name!r} lies in another file: copy it into this one")
    return member


def _content(member: Any, path: Path) -> NDArray[Any]:
    """Read a dataset that is completely written and fits into memory.

    Raises:
        DatasetError: it is incomplete, empty or too large.
    """
    name = member.name.strip("/")
    if member.shape is None:
        raise DatasetError(f"{path}: {name!r} is empty")
    size = math.prod(member.shape) * member.dtype.itemsize
    if member.chunks is not None:
        parts = zip(member.shape, member.chunks, strict=True)
        chunks = math.prod(-(-length // chunk) for length, chunk in parts)
        written = member.id.get_num_chunks()
        if written < chunks:
            raise DatasetError(
                f"{path}: {chunks - written:,} of the {chunks:,} chunks of {name!r} were never "
                "written and would be read as zeros: write the file again, to its end"
            )
    elif size and not member.id.get_storage_size():
        raise DatasetError(
            f"{path}: {name!r} was never written and would be read as zeros: write the file again"
        )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > memory:
        raise DatasetError(
            f"{path}: {name!r} {member.shape} takes {size:,} bytes of memory, but there are "
            f"{memory:,}: use image files, imagefolder:DIR"
        )
    found: NDArray[Any] = np.asarray(member[()])
    return found


def _classes(file: Any, path: Path) -> Any:
    """Return the attribute `classes`: names, also from the text of a JSON list, or None.

    Raises:
        DatasetError: it is other text, or a name occurs twice.
    """
    found = file.attrs.get("classes")
    if isinstance(found, np.ndarray) and found.ndim == 0:
        found = found.item()
    if isinstance(found, str | bytes):
        try:
            found = json.loads(found)
        except ValueError:  # JSON, or the bytes that should be its text.
            found = None
        if not isinstance(found, list):
            raise DatasetError(
                f"{path}: its attribute 'classes' is one text, {file.attrs['classes'][:40]!r}, "
                f"rather than a list of names: {_FORM}"
            )
    if found is not None:
        names = class_names(found, (), f"{path}, attribute 'classes'")
        (name, times), *_ = Counter(names).most_common(1)
        if times > 1:
            raise DatasetError(
                f"{path}: its attribute 'classes' has the name {name!r} {times} times"
            )
    return found
