"""Checking that chunks are present before they are needed, by the sizes of their files."""

from __future__ import annotations

from collections.abc import Sequence

from logitbank.stores.chunks import ChunkError, check_size
from logitbank.stores.files import Files
from logitbank.stores.layout import ArraySpec


def require_present(files: Files, chunks: Sequence[tuple[ArraySpec, tuple[int, ...]]]) -> None:
    """Check that chunks, each an array and an index in its grid, exist and have the right size.

    Raises:
        ChunkError: the first that doesn't, as reading it would say, and how many more don't.
    """
    sizes = files.sizes([spec.chunk_key(index) for spec, index in chunks])
    problems = []
    for (spec, index), size in zip(chunks, sizes, strict=True):
        try:
            check_size(files.where, spec, index, size)
        except ChunkError as error:
            problems.append(error)
    if not problems:
        return
    first, others = problems[0], len(problems) - 1
    if not others:
        raise first
    more = f"and {others} more of {len(chunks)} chunks that will be read are not there whole"
    raise ChunkError(files.where, first.key, f"{first.cause}, {more}")
