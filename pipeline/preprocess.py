"""The preprocessing stage: a corrected store from a raw one, block by block."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from logitbank.pipeline.provenance import provenance_now
from logitbank.stores.corrections import BadRowError, Correction, correction_named
from logitbank.stores.errors import StoreError, UsageError
from logitbank.stores.layout import Unit, block_bounds
from logitbank.stores.manifest import CorrectionIdentity, Manifest, Measured
from logitbank.stores.reader import Store
from logitbank.stores.writer import StoreWriter

Progress = Callable[[int, int], None]


def corrected_manifest(parent: Store, correction: str) -> Manifest:
    """Describe the store that a correction makes of its parent.

    Raises:
        UsageError: an unknown correction, or a parent that is corrected already.
    """
    correction_named(correction)
    manifest = parent.manifest
    if manifest.correction is not None:
        raise UsageError(
            f"{parent.where} is corrected by {manifest.correction.name} already: correct the raw "
            "store it was made from"
        )
    assert manifest.digest is not None, "only a complete store can be opened"
    measured = dataclasses.replace(manifest.measured, top1=None, top5=None, label_ranks=())
    return dataclasses.replace(
        manifest.unsealed(),
        kind="corrected",
        correction=CorrectionIdentity(correction, manifest.digest),
        measured=measured,
        provenance=provenance_now(
            "cpu", teacher_spec=manifest.provenance.teacher_spec, parent=parent.where
        ),
    )


def wrong_rows(measured: Measured) -> tuple[int, int]:
    """Give the rows whose label is not first, and all rows: what a correction changes, and of."""
    return sum(measured.label_ranks[1:]), sum(measured.label_ranks)


def correct_store(
    parent: Store,
    writer: StoreWriter,
    *,
    threads: int = 2,
    progress: Progress = lambda done, total: None,
) -> Manifest:
    """Correct the units that a store lacks, and seal it.

    Args:
        parent: the raw store.
        writer: the corrected store being made, of `corrected_manifest`.
        threads: how many units are read, corrected and written at a time.
        progress: called with the units done in this run and their number.

    Returns:
        The sealed manifest.

    Raises:
        StoreError: a chunk of the parent is bad, a row can't be corrected, a file can't be written,
            or a row is still wrong.
    """
    correction = writer.manifest.correction
    assert correction is not None, "corrected_manifest names the correction"
    correct = correction_named(correction.name)
    with ThreadPoolExecutor(threads) as pool:
        work = [pool.submit(correct_unit, parent, writer, correct, unit) for unit in writer.lacking]
        try:
            for done, future in enumerate(work, start=1):
                future.result()
                progress(done, len(work))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    sealed = writer.seal()
    wrong, rows = wrong_rows(sealed.measured)
    if wrong:
        raise StoreError(f"{writer.files.where}: {wrong} of {rows} rows are wrong after correction")
    return sealed


def correct_unit(parent: Store, writer: StoreWriter, correct: Correction, unit: Unit) -> None:
    """Read, correct and write one unit; a pure map of the parent's bytes, so it may run twice.

    Raises:
        StoreError: as `correct_store`.
    """
    names = ("view_params", "pixel_crc", "top", "logits")
    values = {name: parent.read_block(name, unit).copy() for name in names}
    start, stop = block_bounds(parent.manifest, unit.block)
    try:
        correct(values["logits"], values["top"], parent.target[start:stop])
    except BadRowError as error:
        raise error.in_store(parent.where, unit.view, start) from None
    writer.write_unit(unit, values)
