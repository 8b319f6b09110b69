"""The manifest of a corrected store: its identity, from its parent's and the correction."""

from __future__ import annotations

import dataclasses

from logitbank.pipeline.provenance import provenance_now
from logitbank.stores.corrections import correction_named
from logitbank.stores.errors import UsageError
from logitbank.stores.manifest import CorrectionIdentity, Manifest, Measured
from logitbank.stores.reader import Store


def corrected_manifest(parent: Store, correction: str) -> Manifest:
    """Return the manifest of the store that a correction makes from its parent.

    Raises:
        UsageError: the correction is unknown, or the parent is already corrected or holds mixed
            views.
    """
    found = correction_named(correction)
    manifest = parent.manifest
    if manifest.correction is not None:
        raise UsageError(
            f"{parent.where} is corrected by {manifest.correction.name} already: correct the raw "
            "store it was made from"
        )
    manifest.require_correctable(parent.where)
    assert manifest.digest is not None, "only a complete store can be opened"
    measured = dataclasses.replace(manifest.measured, top1=None, top5=None, label_ranks=())
    return dataclasses.replace(
        manifest.unsealed(),
        kind="corrected",
        correction=CorrectionIdentity(correction, manifest.digest, found.temperature),
        measured=measured,
        provenance=provenance_now(
            "cpu", teacher_spec=manifest.provenance.teacher_spec, parent=parent.where
        ),
    )


def wrong_rows(measured: Measured) -> tuple[int, int]:
    """Return the number of rows whose label is not first, and the number of all rows."""
    return sum(measured.label_ranks[1:]), sum(measured.label_ranks)
