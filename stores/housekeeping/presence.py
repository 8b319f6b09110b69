"""Looking for chunks before they are needed, by their files' sizes alone."""

from __future__ import annotations

from collections.abc import Sequence

from logitbank.stores.chunks import ChunkError, check_size
from logitbank.stores.files import Files
from logitbank.stores.layout import ArraySpec


def require_present(files: Files, chunks: Sequence[tuple[ArraySpec, tuple[int, ...]]]) -> None:
    """Require chunks, each an array and a place in it, to be there and of their size.

    Raises:
        ChunkError: the first that is not, as reading it would say, and how many more are not.
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
