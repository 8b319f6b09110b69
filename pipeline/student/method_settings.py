"""The method of a run: published settings, what the user changed in them, and back into fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from logitbank.pipeline.bounds import Expected
from logitbank.pipeline.losses import DatasetKind, Method, published_method
from logitbank.stores.errors import UsageError

LossSetting = Annotated[
    bool | int | float | str | tuple[float, ...],
    Expected("a number, a list of numbers, true, false or text"),
]

_FIELDS = {"ce": "ce_weight", "kd": "kd_weight", "temperature": "temperature"}
"""The settings that have a field and a flag of their own; all others go by `loss_settings`."""

_OF_THE_LOGITS = "swap_teacher"


def canonical_name(loss: str) -> str:
    """Give a loss's own name; UsageError with the nearest one where there is none."""
    return published_method(loss, DatasetKind.CIFAR).name


def given_settings(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Collect by the methods' own names what a configuration's fields say of the loss.

    Args:
        fields: a configuration's, by name.

    Raises:
        UsageError: a setting is given twice, with two values.
    """
    given = dict(fields["loss_settings"])
    for name, field in _FIELDS.items():
        value = fields[field]
        if value is None:
            continue
        if name in given and float(given[name]) != value:
            raise UsageError(
                f"--{field.replace('_', '-')} {value:g} and --loss-setting {name}={given[name]} "
                "are the same setting: give one of them"
            )
        given[name] = value
    return given


def changed(method: Method, given: Mapping[str, Any]) -> Method:
    """Give a method with the user's settings in the place of the published ones.

    Args:
        method: as it takes the logits that there are (`Method.on_logits`).
        given: settings by the method's own names.

    Raises:
        UsageError: an unknown setting, a value it can't have, or `swap_teacher` against what the
            store says of its logits.
    """
    found = method.with_settings(**given)
    usual = dataclasses.asdict(method.settings).get(_OF_THE_LOGITS)
    if dataclasses.asdict(found.settings).get(_OF_THE_LOGITS) != usual:
        raise UsageError(
            f"{method.name}: {_OF_THE_LOGITS} follows the store's manifest, here {usual}: a raw "
            "store is swapped as it is read, a corrected one is taken as it is, and the loss swaps "
            "what a teacher in the loop says"
        )
    return found


def as_fields(method: Method) -> dict[str, Any]:
    """Give a method as a configuration's fields hold it: complete."""
    settings = dataclasses.asdict(method.settings)
    fields = {field: settings.pop(name, None) for name, field in _FIELDS.items()}
    return {"loss": method.name, **fields, "loss_settings": settings}


def as_method(fields: Mapping[str, Any]) -> Method:
    """Give the method that `as_fields` wrote."""
    return published_method(fields["loss"], DatasetKind.CIFAR).with_settings(
        **given_settings(fields)
    )
