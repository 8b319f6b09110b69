"""Encodings by their text form, such as `float16` or `NAME:parameter=value`."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic import TypeAdapter, ValidationError

from logitbank.stores.encodings.encoding import Encoding
from logitbank.stores.encodings.floats import Float16, Float32
from logitbank.stores.errors import UsageError, unknown_name
from logitbank.stores.parameters import parse_parameters

ENCODINGS: dict[str, type[Encoding]] = {kind.name: kind for kind in (Float32, Float16)}
DEFAULT_ENCODING = Float16.name
"""What a store is cached in where nothing else is asked for."""


def encoding_named(text: str) -> Encoding:
    """Parse the text form of an encoding: a name, then parameters after a colon, if any.

    >>> str(encoding_named("float16"))
    'float16'

    Raises:
        UsageError: the name or a parameter is unknown, given twice, or out of bounds.
    """
    name = text.partition(":")[0]
    if name not in ENCODINGS:
        raise unknown_name("encoding", name, ENCODINGS)
    kind: Any = ENCODINGS[name]
    known = [field.name for field in dataclasses.fields(kind)]
    _, parameters = parse_parameters("encoding", text)
    for key in parameters:
        if not known:
            raise UsageError(f"encoding {text!r}: {name} has no parameters")
        if key not in known:
            raise unknown_name(f"parameter of encoding {name}", key, known)
    if not parameters:
        return kind()
    try:
        return TypeAdapter(kind).validate_python(parameters)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"encoding {text!r}: {place}: {first['msg']}") from None
