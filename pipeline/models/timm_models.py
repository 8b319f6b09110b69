"""timm's classification networks and published weights: an optional extra.

A name of timm's may carry a tag, `resnet18.tv_in1k`, of the published configuration that the
network's inputs follow. It never loads that configuration's weights, as an `@` does.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from logitbank.pipeline.models.inputs import Inputs, parse_inputs
from logitbank.pipeline.models.published import identify, warn_of_other_content
from logitbank.stores.errors import LogitbankError, UsageError, unknown_name

_LOG = logging.getLogger(__name__)


def timm_tags(name: str) -> list[str]:
    """Return the tags of a network's published weights, such as `a1_in1k`.

    Raises:
        UsageError: timm is not installed, or has no such network.
    """
    return _tags(_checked(name).partition(".")[0])


def fresh_timm_model(name: str, classes: int, input_size: int | None) -> tuple[nn.Module, Inputs]:
    """Build a network with random weights, for images of a given size if it takes any.

    Args:
        name: without a tag.
        classes: of its last layer.
        input_size: the dataset's side in pixels; the configuration's is taken if it is None, or if
            the network takes only one.

    Raises:
        UsageError: timm is not installed, has no such network, or the name carries a tag.
    """
    architecture, dot, tag = name.partition(".")
    if dot:
        raise UsageError(
            f"timm:{name} loads no weights: timm:{architecture}@{tag} is the published network, "
            f"timm:{architecture} a fresh one"
        )
    module, inputs = timm_model(name, classes)
    if _configuration(module).get("fixed_input_size"):
        return module, inputs
    return module, Inputs(input_size=input_size).or_else(inputs)


def timm_model(name: str, classes: int) -> tuple[nn.Module, Inputs]:
    """Build a network with random weights, and return the inputs of its configuration.

    The configuration is that of the name's tag, or else timm's default for the network. Of its two
    sizes the one of training is taken, with the crop that belongs to it. Crop modes other than
    `center` (`squash`, `border`) are treated as `center`: on square images they are the same.

    Raises:
        UsageError: timm is not installed, has no such network, or no such tag of it.
        LogitbankError: the network can't be built for so many classes.
    """
    _checked(name)
    try:
        module = _timm().create_model(name, pretrained=False, num_classes=classes)
    except Exception as error:  # any of a thousand networks may raise anything
        raise LogitbankError(
            f"timm:{name} can't be built for {classes} classes: {type(error).__name__}: {error}"
        ) from error
    return module, _inputs(name, _configuration(module))


def timm_file_tag(name: str, path: Path, classes: int) -> str | None:
    """Return the tag of the published weights that a file is, by its name or content.

    Only files published under a URL can be recognised; on the hub all have the same name. A file
    with such a name but other content is taken for them too, with a warning.

    Args:
        name: of the network. A tag in it wins, with a warning where the file is known as another's.
        path: the file, which exists.
        classes: the number of classes requested.

    Returns:
        None if it is not one of them, or if they have another number of classes.

    Raises:
        UsageError: timm is not installed, has no such network, or no such tag of it.
    """
    architecture, _, own = _checked(name).partition(".")
    urls: dict[str, str] = {}
    for tag in _tags(architecture):
        published = _timm().get_pretrained_cfg(f"{architecture}.{tag}")
        if published.url and published.num_classes == classes:
            url = published.url
            urls[tag] = url if isinstance(url, str) else url[0]
    found = identify(path, urls)
    if found is None:
        return own or None
    what, tag = f"timm:{architecture}@{found.key}", own or found.key
    if tag != found.key:
        _LOG.warning(
            "%s is published as %s: images are prepared as for %s, as the spec says",
            path,
            what,
            name,
        )
    elif found.is_original is False:
        warn_of_other_content(path, what, "images are prepared as for those")
    return tag


def published_timm_model(name: str, tag: str, classes: int) -> tuple[nn.Module, Inputs]:
    """Build a network with the published weights of a tag, one of `timm_tags`.

    Raises:
        UsageError: the name itself carries another tag.
        LogitbankError: the weights are of another number of classes, or can't be downloaded.
    """
    architecture, _, own = name.partition(".")
    if own not in ("", tag):
        raise UsageError(f"timm:{name}@{tag} names two weights: write timm:{architecture}@{tag}")
    tagged = f"{architecture}.{tag}"
    published = _timm().get_pretrained_cfg(tagged)
    if published.num_classes != classes:
        raise LogitbankError(
            f"timm:{architecture}@{tag} has {published.num_classes} classes, expected for"
        )
    try:
        module = _timm().create_model(tagged, pretrained=True)
    except Exception as error:  # the hub's client has errors of its own, and so has each loader
        why = str(error).partition("\n")[0]
        where = f"https://huggingface.co/{published.hf_hub_id}"
        raise LogitbankError(
            f"timm:{architecture}@{tag} can't be downloaded ({why}): fetch its file of weights "
            f"from {where if published.hf_hub_id else published.url} and give its path, "
            f"timm:{tagged}@FILE"
        ) from error
    return module, _inputs(tagged, _configuration(module))


def _configuration(module: nn.Module) -> Mapping[str, Any]:
    return getattr(module, "pretrained_cfg", {})


def _inputs(name: str, configuration: Mapping[str, Any]) -> Inputs:
    size = configuration.get("input_size")
    crop = configuration.get("crop_pct")
    # Rounded as by timm's own transforms for evaluation.
    resize = math.floor(size[-1] / crop) if size and crop else None
    given = {key: configuration.get(key) for key in ("mean", "std", "interpolation")}
    return parse_inputs({"input_size": size, "resize": resize, **given}, f"timm:{name}")


def _checked(name: str) -> str:
    """Return the name, checked to be of a network that timm has, with its tag if any."""
    architecture, _, tag = name.partition(".")
    if not _timm().is_model(architecture):
        raise _unknown("timm model", architecture, _timm().list_models())
    tags = _tags(architecture)
    if tag and tag not in tags:
        raise _unknown(f"tag of timm:{architecture}", tag, tags)
    return name


def _tags(architecture: str) -> list[str]:
    return [each.partition(".")[2] for each in _timm().list_pretrained(f"{architecture}.*")]


def _unknown(kind: str, name: str, valid: list[str]) -> UsageError:
    # All thousand names would bury the one that was meant.
    return UsageError(unknown_name(kind, name, valid).args[0].partition(" (known")[0])


def _timm() -> ModuleType:
    try:
        import timm  # Optional, and takes seconds to import.
    except ModuleNotFoundError as error:
        raise UsageError(
            "timm: models need a package that is not installed: pip install 'logitbank[timm]'"
        ) from error
    return timm
