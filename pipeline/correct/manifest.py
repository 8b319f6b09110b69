"""What a corrected store is of: the identity that a correction gives it."""

from __future__ import annotations

import dataclasses

from logitbank.pipeline.provenance import provenance_now
from logitbank.stores.corrections import correction_named
from logitbank.stores.errors import UsageError
from logitbank.stores.manifest import CorrectionIdentity, Manifest, Measured
from logitbank.stores.reader import Store


def corrected_manifest(parent: Store, correction: str) -> Manifest:
    """Describe the store that a correction makes of its parent.

    Raises:
        UsageError: an unknown correction, or a parent that is corrected already or holds mixed
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
    """Return the rows whose label is not first, and all rows: what a correction changes, and of."""
    return sum(measured.label_ranks[1:]), sum(measured.label_ranks)
