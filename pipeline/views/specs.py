"""Augmentations by spec, such as `cifar-weak:pad=2,flip=no`, and from a manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from logitbank.pipeline.views.augmentation import Augmentation
from logitbank.pipeline.views.center import Center
from logitbank.pipeline.views.cifar_strong import CifarStrong
from logitbank.pipeline.views.cifar_weak import CifarWeak
from logitbank.pipeline.views.imagenet_strong import ImagenetStrong
from logitbank.pipeline.views.imagenet_weak import ImagenetWeak
from logitbank.stores.errors import UsageError, unknown_name

_KINDS = (Center, CifarWeak, CifarStrong, ImagenetWeak, ImagenetStrong)
AUGMENTATIONS = {kind.name: kind for kind in _KINDS}
_TRUTH = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


def parse_augmentation(spec: str, *, size: int | None = None) -> Augmentation:
    """Read a spec: a name, and after a colon parameters, separated by commas.

    Args:
        spec: such as `center` or `cifar-weak:pad=2,flip=no`.
        size: the side of a view where the spec doesn't give one: the model's input size.

    Raises:
        UsageError: an unknown name or parameter, or a value that can't be meant.
    """
    name, _, listed = spec.partition(":")
    parameters: dict[str, Any] = {}
    for assignment in filter(None, listed.split(",")):
        key, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"augmentation {spec!r}: {assignment!r} is not of the form key=value")
        if key in parameters:
            raise UsageError(f"augmentation {spec!r} gives {key} twice")
        parameters[key] = _literal(text)
    if size is not None:
        parameters.setdefault("size", size)
    return _augmentation(name, parameters)


def augmentation_from(name: str, parameters: Mapping[str, Any]) -> Augmentation:
    """Build an augmentation from a manifest, which names all of its parameters.

    Raises:
        UsageError: an unknown name or parameter, one that is missing, or a value out of range.
    """
    augmentation = _augmentation(name, parameters)
    missing = augmentation.parameters.keys() - parameters.keys()
    if missing:
        raise UsageError(f"augmentation {name!r} lacks its {', '.join(sorted(missing))}")
    return augmentation


def _augmentation(name: str, parameters: Mapping[str, Any]) -> Augmentation:
    if name not in AUGMENTATIONS:
        raise unknown_name("augmentation", name, AUGMENTATIONS)
    kind = AUGMENTATIONS[name]
    known = [field.name for field in dataclasses.fields(kind)]
    for key in parameters:
        if key not in known:
            raise unknown_name(f"parameter of {name}", key, known)
    return kind(**parameters)


def _literal(text: str) -> bool | int | str:
    if text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    try:
        return int(text)
    except ValueError:
        return text
