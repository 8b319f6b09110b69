"""Corrections by name: the built-in ones, and those that users register."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from logitbank.stores.corrections.correction import Correction, RowKernel
from logitbank.stores.corrections.kernels import check_rows, sort_rows, swap_rows
from logitbank.stores.corrections.ranking import top_classes
from logitbank.stores.encodings import LogitOutOfRangeError
from logitbank.stores.encodings.floats import rounded
from logitbank.stores.errors import LogitbankError, StoreError, UsageError, unknown_name
from logitbank.stores.importing import IMPORT, import_spec

CORRECTIONS: dict[str, Correction] = {
    "sort": Correction("sort", sort_rows),
    "swap": Correction("swap", swap_rows),
}
BUILT_IN = tuple(CORRECTIONS)

Revision = Callable[[NDArray[np.float32], NDArray[np.int32]], NDArray[Any]]


def correction_named(name: str) -> Correction:
    """Return the correction of a name.

    Args:
        name: `sort`, `swap`, the name of a registered correction, or `import:MODULE:NAME`, which
            imports a module that registers NAME, so that jobs and their workers find it.

    Raises:
        UsageError: there is no such correction, or no such module.
    """
    if not name.startswith(IMPORT):
        return _registered(name, "correction")
    module, registered = import_spec(name, "name")
    return _registered(registered, f"correction (after importing {module.__name__})")


def correction_of_manifest(name: str, where: str, allowed: Collection[str] = ()) -> Correction:
    """Return the correction that a store's manifest names, importing nothing for it.

    Args:
        name: as the manifest has it.
        where: the store's path or URL, for errors.
        allowed: names of the form `import:MODULE:NAME` that the caller lets a store import.

    Raises:
        StoreError: it would have to be imported and is not allowed by exactly that name, or is not
            registered in this process.
        UsageError: as `correction_named`, for an allowed one.
    """
    if name in CORRECTIONS or name in allowed:
        return correction_named(name)
    if name.startswith(IMPORT):
        raise StoreError(
            f"{where} is corrected by {name}, and a manifest runs no code: to correct its rows, "
            f"allow that import by name (--allow-correction {name}, or allow_corrections=[...] in "
            "Python)"
        )
    raise StoreError(
        f"{where} is corrected by {name!r}, which is not one of {', '.join(sorted(CORRECTIONS))}: "
        "import the module that registers it first"
    )


def register_correction(name: str, revise: Revision, *, temperature: float | None) -> Correction:
    """Register a correction of your own under a name.

    Args:
        name: the name for `--correction`.
        revise: maps the logits of wrong rows, (W, C) float32, and their labels, (W,) int32, to new
            logits of the same shape. A row's result must depend on that row alone.
        temperature: the one it acts at; None if its result is the same at any.

    Returns:
        The correction, which acts on decoded rows; they are encoded again as the store's are.

    Raises:
        UsageError: another correction has that name.
    """
    known = CORRECTIONS.get(name)
    if known is not None and not _is_same_function(known.kernel, revise):
        raise UsageError(f"a correction named {name!r} exists already: choose another name")
    kernel = RevisedRows(name, revise)
    CORRECTIONS[name] = correction = Correction(name, kernel, True, temperature)
    return correction


class RevisedRows:
    """The row kernel of a correction that computes new values from decoded logits."""

    def __init__(self, name: str, revise: Revision) -> None:
        self.name, self.revise = name, revise

    def __call__(
        self,
        codes: NDArray[Any],
        top: NDArray[Any],
        target: NDArray[np.int32],
        out: NDArray[Any],
        out_top: NDArray[Any],
        *,
        every_row: bool = True,
    ) -> None:
        """Revise the wrong rows; right ones are copied unchanged, and always checked.

        Raises:
            BadRowError: a row has a NaN, or names a class that does not exist.
            LogitbankError: the function returns another shape, or values that are not finite or
                that the store's dtype can't hold.
        """
        check_rows(codes, top, target)
        wrong = np.flatnonzero(top[:, 0] != target)
        logits = codes[wrong].astype(np.float32)
        revised = np.asarray(self.revise(logits.copy(), target[wrong]), np.float32)
        if revised.shape != logits.shape:
            raise LogitbankError(
                f"{self.name} returned logits of shape {revised.shape}, expected {logits.shape}"
            )
        if not np.isfinite(revised).all():
            raise LogitbankError(f"{self.name} returned logits that are not finite")
        if out is not codes:
            out[...], out_top[...] = codes, top
        try:
            out[wrong] = rounded(revised, codes.dtype)
        except LogitOutOfRangeError as error:
            raise LogitbankError(f"{self.name}: {error}") from error
        out_top[wrong] = top_classes(revised, target[wrong], top.shape[1])


def _registered(name: str, kind: str) -> Correction:
    if name not in CORRECTIONS:
        raise unknown_name(kind, name, CORRECTIONS)
    return CORRECTIONS[name]


def _is_same_function(kernel: RowKernel, revise: Revision) -> bool:
    """Return whether the same function is registered again, as by importing its module again."""
    if not isinstance(kernel, RevisedRows):
        return False
    old = kernel.revise
    return (old.__module__, old.__qualname__) == (revise.__module__, revise.__qualname__)
