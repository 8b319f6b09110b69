"""Published files of weights: which one a file is, by its name or by its content."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_HASHED = re.compile(r"-([0-9a-f]{8,64})\.[^.]+$")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublishedFile:
    """The published weights that a file is taken for; `key` is that of `identify`.

    `is_original` is whether its content is theirs as well, by the hash in the published name; None
    if that has no hash.
    """

    key: str
    is_original: bool | None


def identify(path: Path, urls: Mapping[str, str]) -> PublishedFile | None:
    """Return which published file a file is: by its content first, then by its name.

    torchvision and timm name a file `resnet18-f37072fd.pth`: behind the dash are the first digits
    of its sha256. So a renamed file is recognised, and so is one that is not what its name says: it
    is taken for what its name says, with a warning.

    Args:
        path: the file, which exists.
        urls: where each of the weights that it may be is published.

    Returns:
        None if it is not one of them.
    """
    names = {key: PurePosixPath(url).name for key, url in urls.items()}
    hashes = {key: found[1] for key, name in names.items() if (found := _HASHED.search(name))}
    digest = _sha256(path) if hashes else ""
    for key, start in hashes.items():
        if digest.startswith(start):
            return PublishedFile(key, is_original=True)
    for key, name in names.items():
        if name == path.name:
            return PublishedFile(key, is_original=None if key not in hashes else False)
    return None


def warn_of_other_content(path: Path, what: str, consequence: str) -> None:
    """Warn that a file has the name of published weights but not their content."""
    _LOG.warning(
        "%s has the name of the published weights of %s, but not their content: it is cut, changed "
        "or other weights; %s",
        path,
        what,
        consequence,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
