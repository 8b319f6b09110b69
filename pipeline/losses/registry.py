"""Losses by name: ours, and those that users write.

`+ls` stands for standardised logits (arXiv 2403.01427), which combine with a loss; `lskd` is KD on
them, and may be written `kd+ls`.
"""

from __future__ import annotations

import dataclasses
import inspect

from logitbank.pipeline.bounds import from_mapping
from logitbank.pipeline.losses.cross_entropy import CrossEntropy
from logitbank.pipeline.losses.ctkd import CTKD, StandardisedCTKD
from logitbank.pipeline.losses.dkd import DKD, StandardisedDKD
from logitbank.pipeline.losses.kd import KD, StandardisedKD
from logitbank.pipeline.losses.loss import Loss
from logitbank.pipeline.losses.mlkd import MLKD, StandardisedMLKD
from logitbank.pipeline.losses.published import DatasetKind
from logitbank.pipeline.losses.sld import SLD, WeakSLD
from logitbank.stores.errors import UsageError, unknown_name
from logitbank.stores.importing import IMPORT, import_factory

_CLASSES: tuple[type[Loss], ...] = (
    CrossEntropy,
    KD,
    StandardisedKD,
    DKD,
    StandardisedDKD,
    CTKD,
    StandardisedCTKD,
    MLKD,
    StandardisedMLKD,
    SLD,
    WeakSLD,
)

LOSSES = {each.name: each for each in _CLASSES}
"""The losses that come with logitbank."""

_SYNONYMS = {"kd+ls": "lskd"}


def loss_class(name: str) -> type[Loss]:
    """Return the loss class of a name.

    Args:
        name: one of `LOSSES`, `kd+ls`, or `import:package.module:Class`.

    Raises:
        UsageError: an unknown name (the nearest is suggested), or what is imported is not a loss.
    """
    if name.startswith(IMPORT):
        return _imported(name)
    name = _SYNONYMS.get(name, name)
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    return LOSSES[name]


def published_loss(
    name: str,
    kind: DatasetKind,
    *,
    teacher: str | None = None,
    student: str | None = None,
    first_drop: int | None = None,
) -> Loss:
    """Build a loss with its published settings; without any, with its own defaults.

    Args:
        name: as `loss_class` takes it.
        kind: which benchmark the dataset resembles.
        teacher: its spec or its network's name, where settings differ by pair.
        student: likewise.
        first_drop: the epoch in which the learning rate first drops, counted from 0, SLD's γ; None
            takes the published schedule's.

    Raises:
        UsageError: an unknown name; the nearest is suggested.
    """
    cls = loss_class(name)
    settings = cls.published.settings(kind, teacher or "", student or "") if cls.published else {}
    try:
        loss = from_mapping(cls, settings)
    except UsageError as error:
        raise UsageError(f"{cls.name}: {error}; a setting needs a default") from error
    return loss if first_drop is None else loss.with_first_drop(first_drop)


def _imported(name: str) -> type[Loss]:
    """Import a user's own loss, and check that it is a loss."""
    found = import_factory(name.removeprefix(IMPORT))
    if not (isinstance(found, type) and issubclass(found, Loss)):
        raise UsageError(
            f"{name} is not a loss: it must be a class that extends logitbank.pipeline.losses.Loss "
            "(docs/your-own-loss.md)"
        )
    if inspect.isabstract(found):
        raise UsageError(f"{name} computes nothing: it needs a method `terms`")
    fields = {field.name for field in dataclasses.fields(found)}
    for setting, hint in inspect.get_annotations(found).items():
        if setting not in fields and "ClassVar" not in str(hint):
            raise UsageError(
                f"{name} annotates {setting}, which is not one of its fields: write "
                "@dataclass(frozen=True) above the class"
            )
    return found
