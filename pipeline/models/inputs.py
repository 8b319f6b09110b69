"""The images that a network expects, as far as this is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from logitbank.pipeline.models.normalisation import Normalisation
from logitbank.stores.errors import UsageError, unknown_name

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")


@dataclass(frozen=True)
class Inputs:
    """Side in pixels, normalisation, and how centre crops are prepared; None where unknown.

    `resize` is the length of the shorter side before the crop, `interpolation` Pillow's filter for
    it, in lower case.
    """

    input_size: int | None = None
    normalisation: Normalisation | None = None
    resize: int | None = None
    interpolation: str | None = None

    def or_else(self, other: Inputs) -> Inputs:
        """Return the inputs, with None filled from another; its `resize` only if the sizes agree.

        A resize to 235 pixels belongs to crops of 224, and means nothing for crops of 32.
        """
        if None not in (self.input_size, other.input_size) and self.input_size != other.input_size:
            other = replace(other, resize=None)
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return Inputs(
            **{
                name: getattr(other, name) if value is None else value
                for name, value in own.items()
            }
        )


def parse_inputs(values: Mapping[str, Any], where: str) -> Inputs:
    """Parse the plain values of a factory or of a checkpoint.

    Args:
        values: any of `input_size` (a side, or (3, side, side)), `mean` and `std` (both or
            neither), `resize`, `interpolation`.
        where: what the values belong to, for the message.

    Raises:
        UsageError: an unknown key or an invalid value.
    """
    known = ("input_size", "mean", "std", "resize", "interpolation")
    for key in values:
        if key not in known:
            raise unknown_name(f"input property of {where}", str(key), known)
    given = {key: value for key, value in values.items() if value is not None}
    if ("mean" in given) != ("std" in given):
        raise UsageError(f"{where} has only one of mean and std: give both or neither")
    interpolation = given.get("interpolation")
    if interpolation is not None and interpolation not in INTERPOLATIONS:
        raise unknown_name(f"interpolation of {where}", str(interpolation), INTERPOLATIONS)
    return Inputs(
        input_size=_side(given["input_size"], where) if "input_size" in given else None,
        normalisation=Normalisation.of(given["mean"], given["std"]) if "mean" in given else None,
        resize=_side(given["resize"], where) if "resize" in given else None,
        interpolation=interpolation,
    )


def _side(value: Any, where: str) -> int:
    sides = tuple(value) if isinstance(value, (tuple, list)) else (3, value, value)
    if len(sides) == 3 and sides[0] == 3 and sides[1] == sides[2]:
        side = sides[1]
        if isinstance(side, int) and not isinstance(side, bool) and side > 0:
            return side
    raise UsageError(
        f"{where} takes images of size {value!r}: expected a side in pixels or (3, side, side)"
    )
