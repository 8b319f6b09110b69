"""Bounds on the fields of settings classes: pydantic's checks, with errors in our own words.

A settings class is a frozen dataclass whose annotations state what its fields may hold and whose
`__post_init__` checks them, so a bad value is refused however the settings are built:

>>> @dataclass(frozen=True)
... class Schedule:
...     epochs: Count
...     decay: Fraction = 0.0
...
...     def __post_init__(self) -> None:
...         check_fields(self)
>>> from_mapping(Schedule, {"epochs": "240"})
Schedule(epochs=240, decay=0.0)
>>> Schedule(epochs=0)
Traceback (most recent call last):
logitbank.stores.errors.UsageError: epochs must be 1 or more, not 0
>>> from_mapping(Schedule, {"epoch": 240})
Traceback (most recent call last):
logitbank.stores.errors.UsageError: unknown setting 'epoch': did you mean 'epochs'? (known: decay, \
epochs)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from logitbank.stores.errors import UsageError, unknown_name

_Settings = TypeVar("_Settings")


@dataclass(frozen=True)
class Expected:
    """How errors describe a field's valid values, where its bounds alone would not read well."""

    words: str


Count = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
FinitePositive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "dict": "a mapping",
    "dataclass": "a mapping",
}
"""How errors describe the expected type, by the first word of pydantic's error type."""

_BOUNDS = ("ge", "gt", "le", "lt")


def check_fields(settings: Any) -> None:
    """Check that each field holds what its annotation allows; call it in `__post_init__`.

    Values that represent the annotated type are converted: "0.5" to a float, a list to a tuple.

    Args:
        settings: an instance of a frozen dataclass whose annotations pydantic understands.

    Raises:
        UsageError: a value is out of bounds or of another type.
    """
    for name, field in _fields(type(settings)).items():  # type: ignore[arg-type]
        value = getattr(settings, name)
        try:
            object.__setattr__(settings, name, field.adapter.validate_python(value))
        except ValidationError as error:
            raise UsageError(_in_words(name, value, field.hint, error)) from None


def from_mapping(
    cls: type[_Settings], given: Mapping[str, Any], kind: str = "setting"
) -> _Settings:
    """Build settings from plain data, such as the content of a YAML file.

    Args:
        cls: a frozen dataclass that checks its fields; settings within it are built likewise.
        given: values by the names of the fields.
        kind: what errors call a field.

    Raises:
        UsageError: a name is unknown (the nearest is suggested), a required one is missing, or a
            value is out of bounds or of another type.
    """
    fields = _fields(cls)  # type: ignore[arg-type]
    for name in given:
        if name not in fields:
            raise unknown_name(kind, str(name), fields)
    missing = [name for name, field in fields.items() if field.is_required and name not in given]
    if missing:
        raise UsageError(f"{_listed(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    return cls(**{name: _built(fields[name], name, value) for name, value in given.items()})


@dataclass(frozen=True)
class FieldKind:
    """What a field takes: a `bool`, `int`, `float` or `str`, or `many` of them; see `field_kinds`.

    `least` and `most` are the bounds of a whole number, None where there is none.
    """

    type: type
    many: bool
    least: int | None
    most: int | None


def field_kinds(cls: type) -> dict[str, FieldKind]:
    """Return what each field of a settings class takes, to make flags from.

    Args:
        cls: a frozen dataclass; fields of other types are left out.
    """
    fields = _fields(cls)  # type: ignore[arg-type]
    kinds = {name: _kind(field.hint) for name, field in fields.items()}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _kind(hint: Any) -> FieldKind | None:
    inner = _inner(hint)
    limits = _limits(hint if inner is None else inner)
    below, least = limits.get("lt"), limits.get("ge")
    for part in _parts(hint if inner is None else inner):
        if part in (bool, int, float, str):
            most = below - 1 if below is not None and part is int else limits.get("le")
            return FieldKind(part, inner is not None, least, most)
    return None


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _built(field: _Field, name: str, value: Any) -> Any:
    """Return a field's value, built from a mapping if it is itself a settings class."""
    inner = next(filter(dataclasses.is_dataclass, _parts(field.hint)), None)
    if not (isinstance(inner, type) and isinstance(value, Mapping)):
        return value
    try:
        return from_mapping(inner, value, f"setting of {name}")
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error


@dataclass(frozen=True)
class _Field:
    hint: Any
    adapter: TypeAdapter[Any]
    is_required: bool


@cache
def _fields(cls: type) -> dict[str, _Field]:
    hints = get_type_hints(cls, include_extras=True)
    missing = dataclasses.MISSING
    return {
        field.name: _Field(
            hints[field.name],
            _adapter(hints[field.name]),
            field.default is missing and field.default_factory is missing,
        )
        for field in dataclasses.fields(cls)
    }


def _adapter(hint: Any) -> TypeAdapter[Any]:
    if dataclasses.is_dataclass(hint):  # Pydantic configures these by itself.
        return TypeAdapter(hint)
    return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))


def _in_words(name: str, value: Any, hint: Any, error: ValidationError) -> str:
    """Return one line that says which value is wrong and what it must be."""
    first = error.errors(include_url=False)[0]
    for place in first["loc"]:
        inner = _inner(hint, place)
        if inner is None or _expected(hint) is not None:
            break
        name, value, hint = f"{name}.{place}", value[place], inner
    kind = first["type"].partition("_")[0]
    expected = _expected(hint) or _TYPES.get(kind) or _bounds(hint) or first["msg"]
    shown = list(value) if isinstance(value, tuple) else value
    return f"{name} must be {expected}, not {shown!r}"


def _expected(hint: Any) -> str | None:
    return next((each.words for each in _parts(hint) if isinstance(each, Expected)), None)


def _inner(hint: Any, place: int | str = 0) -> Any:
    """Return the annotation of a tuple's or mapping's entry, or of a field, else None."""
    for part in _parts(hint):
        if get_origin(part) in (tuple, dict):
            return get_args(part)[get_origin(part) is dict]
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            return get_type_hints(part, include_extras=True).get(str(place))
    return None


def _parts(hint: Any) -> list[Any]:
    """Return the parts of a hint: types, and the metadata that `Annotated` adds."""
    if get_origin(hint) in (Annotated, Union, UnionType):
        return [part for inner in get_args(hint) for part in _parts(inner)]
    return [hint]


def _bounds(hint: Any) -> str:
    """Describe the bounds of a number: "from 0 to below 1", "finite and above 0"."""
    limits = _limits(hint)
    ge, gt, le, lt = (_number(limits.get(key)) for key in _BOUNDS)
    upper = f"at most {le}" if le else f"below {lt}" if lt else ""
    if ge and upper:
        words = f"from {ge} to {le or upper}"
    else:
        lower = f"{ge} or more" if ge else f"above {gt}" if gt else ""
        words = ", ".join(filter(None, (lower, upper)))
    return words if limits.get("allow_inf_nan", True) else f"finite and {words}"


def _limits(hint: Any) -> dict[str, Any]:
    """Return a hint's bounds by pydantic's names for them."""
    infos = (part for part in _parts(hint) if isinstance(part, FieldInfo))
    return {
        key: getattr(bound, key)
        for info in infos
        for bound in info.metadata
        for key in (*_BOUNDS, "allow_inf_nan")
        if hasattr(bound, key)
    }


def _number(bound: float | None) -> str:
    """Format a bound, large powers of two as such: 2**64."""
    if bound is None:
        return ""
    is_power = isinstance(bound, int) and bound > 2**20 and bound & (bound - 1) == 0
    return f"2**{int(bound).bit_length() - 1}" if is_power else f"{bound:g}"
