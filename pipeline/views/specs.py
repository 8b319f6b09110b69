"""Augmentations by spec, such as `cifar-weak+mixup:pad=2,alpha=1`, and from a manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from logitbank.pipeline.views.augmentations.center import Center
from logitbank.pipeline.views.augmentations.cifar_strong import CifarStrong
from logitbank.pipeline.views.augmentations.cifar_weak import CifarWeak
from logitbank.pipeline.views.augmentations.cutmix import CutMix
from logitbank.pipeline.views.augmentations.imagenet_strong import ImagenetStrong
from logitbank.pipeline.views.augmentations.imagenet_weak import ImagenetWeak
from logitbank.pipeline.views.augmentations.mixed import Augmentation, Mixed
from logitbank.pipeline.views.augmentations.mixup import MixUp
from logitbank.stores.errors import UsageError, unknown_name
from logitbank.stores.parameters import parse_parameters

_KINDS = (Center, CifarWeak, CifarStrong, ImagenetWeak, ImagenetStrong)
AUGMENTATIONS = {kind.name: kind for kind in _KINDS}
MIXES = {kind.name: kind for kind in (MixUp, CutMix)}
_TRUTH = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


def parse_augmentation(
    spec: str, *, size: int | None = None, samples: int | None = None
) -> Augmentation:
    """Parse a spec: a name, and after a colon parameters, separated by commas.

    Args:
        spec: such as `center`, `cifar-weak:pad=2,flip=no` or `cifar-weak+mixup:pad=2,alpha=1`.
        size: the side of a view if the spec doesn't give one: the model's input size.
        samples: N, how many the dataset has, from which mixed views draw their partners.

    Raises:
        UsageError: an unknown name or parameter, an invalid value, or `partners` that aren't the
            dataset's samples.
    """
    name, texts = parse_parameters("augmentation", spec)
    parameters: dict[str, Any] = {key: _literal(text) for key, text in texts.items()}
    if size is not None:
        parameters.setdefault("size", size)
    if "+" in name and samples is not None:
        given = parameters.setdefault("partners", samples)
        if given != samples:
            raise UsageError(
                f"augmentation {spec!r}: partners are drawn from all {samples} samples of the "
                "dataset: leave partners out"
            )
    return _augmentation(name, parameters)


def augmentation_from(name: str, parameters: Mapping[str, Any]) -> Augmentation:
    """Build an augmentation from a manifest, which names all of its parameters.

    Raises:
        UsageError: an unknown name or parameter, one that is missing, or a value out of range.
    """
    augmentation = _augmentation(name, parameters)
    missing = augmentation.parameters.keys() - parameters.keys()
    if missing:
        raise UsageError(f"augmentation {name!r} is missing its {', '.join(sorted(missing))}")
    return augmentation


def _augmentation(name: str, parameters: Mapping[str, Any]) -> Augmentation:
    base, plus, mix = name.partition("+")
    if name in MIXES:
        raise UsageError(f"{name} mixes the views of another augmentation: use cifar-weak+{name}")
    if base not in AUGMENTATIONS:
        raise unknown_name("augmentation", base, AUGMENTATIONS)
    if plus and mix not in MIXES:
        raise unknown_name("way to mix views", mix, MIXES)
    of_base = _fields(AUGMENTATIONS[base])
    known = [*of_base, *_fields(MIXES[mix]), "partners"] if plus else of_base
    for key in parameters:
        if key not in known:
            raise unknown_name(f"parameter of {name}", key, known)
    image = AUGMENTATIONS[base](**_only(parameters, of_base))
    if not plus:
        return image
    if "partners" not in parameters:
        raise UsageError(f"{name} is missing its partners: the number of samples of the dataset")
    mixing = MIXES[mix](**_only(parameters, _fields(MIXES[mix])))
    return Mixed(image, mixing, parameters["partners"])


def _fields(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _only(parameters: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name in names}


def _literal(text: str) -> bool | int | float | str:
    if text.lower() in _TRUTH:
        return _TRUTH[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
