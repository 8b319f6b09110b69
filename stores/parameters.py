"""Parameters as they are written behind a name, `NAME:key=value,...`: of encodings and of views."""

from __future__ import annotations

from logitbank.stores.errors import UsageError


def parse_parameters(kind: str, text: str) -> tuple[str, dict[str, str]]:
    """Split a text form into its name and its parameters, whose values are not looked at.

    Args:
        kind: what errors call it, such as `encoding`.
        text: a name, and after a colon assignments separated by commas.

    Raises:
        UsageError: an assignment of another form, or a key that is given twice.

    >>> parse_parameters("augmentation", "cifar-weak:pad=2,flip=no")
    ('cifar-weak', {'pad': '2', 'flip': 'no'})
    """
    name, _, listed = text.partition(":")
    parameters: dict[str, str] = {}
    for assignment in filter(None, listed.split(",")):
        key, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(f"{kind} {text!r}: {assignment!r} is not of the form key=value")
        if key in parameters:
            raise UsageError(f"{kind} {text!r} gives {key} twice")
        parameters[key] = value
    return name, parameters
