"""torchvision's classification networks and published weights."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from logitbank.pipeline.models.inputs import Inputs
from logitbank.pipeline.models.normalisation import Normalisation
from logitbank.pipeline.models.published import identify, warn_of_other_content
from logitbank.stores.errors import LogitbankError, UsageError, unknown_name

_WITH_AUXILIARY_HEADS = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}
_OLD_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)"), r"\1"),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)


def torchvision_weights(name: str, weights: str) -> Any | None:
    """Return a network's published weights by name, such as `DEFAULT` or `IMAGENET1K_V2`.

    Returns:
        A member of the network's weights enum, None if it has no weights of that name.

    Raises:
        UsageError: torchvision has no such classification network.
    """
    _check_name(name)
    return _torchvision_models().get_model_weights(name).__members__.get(weights)


@dataclass(frozen=True)
class TorchvisionFile:
    """A file that is taken for published weights, `weights`, a member of the network's enum."""

    weights: Any
    is_original: bool


def torchvision_file(name: str, path: Path, classes: int) -> TorchvisionFile | None:
    """Return which of a network's published weights a file is, by its name or content.

    A file with such a name but other content is taken for them too, with a warning.

    Returns:
        None if it is not one of them, or if they have another number of classes.

    Raises:
        UsageError: torchvision has no such classification network.
    """
    _check_name(name)
    members = {
        each.name: each
        for each in _torchvision_models().get_model_weights(name)
        if len(each.meta["categories"] or ()) == classes
    }
    found = identify(path, {key: each.url for key, each in members.items()})
    if found is None:
        return None
    weights = members[found.key]
    if not found.is_original:
        top1 = published_top1(weights)
        warn_of_other_content(
            path,
            f"torchvision:{name}@{weights.name}",
            "images are prepared as for those"
            + ("" if top1 is None else f", and their top-1 of {top1:.2f}% is not required of it"),
        )
    return TorchvisionFile(weights, bool(found.is_original))


def torchvision_network(
    name: str, classes: int, weights: Any | None = None
) -> tuple[nn.Module, Inputs]:
    """Build a network with random weights, and return what is known of its inputs.

    Args:
        name: of the network.
        classes: of its last layer.
        weights: a member of its enum whose file will be loaded: the network is then built as
            torchvision builds it for these.

    Raises:
        UsageError: torchvision has no such classification network.
    """
    _check_name(name)
    options: dict[str, Any] = {}
    if name in _WITH_AUXILIARY_HEADS:
        options |= {"aux_logits": False, "init_weights": weights is None}
    if weights is None:
        return _torchvision_models().get_model(name, num_classes=classes, **options), Inputs()
    if name in _WITH_AUXILIARY_HEADS:
        options["transform_input"] = True
    if name.startswith("vit_"):
        options["image_size"] = weights.meta["min_size"][0]
    if name.startswith("maxvit_"):
        options["input_size"] = weights.meta["min_size"]
    module = _torchvision_models().get_model(name, num_classes=classes, **options)
    return module, _inputs(weights)


def published_torchvision_model(name: str, classes: int, weights: Any) -> tuple[nn.Module, Inputs]:
    """Build a network with published weights, a member of its enum; auxiliary heads are left out.

    Raises:
        UsageError: torchvision has no such classification network.
        LogitbankError: the weights are of another number of classes, or can't be downloaded.
    """
    _check_name(name)
    known = len(weights.meta["categories"] or ())
    if not known:
        raise LogitbankError(
            f"torchvision:{name}@{weights.name} has no classes: its weights are for features alone"
        )
    if known != classes:
        raise LogitbankError(
            f"torchvision:{name}@{weights.name} has {known} classes, expected {classes}"
        )
    try:
        module = _torchvision_models().get_model(name, weights=weights)
    except (OSError, RuntimeError) as error:
        raise LogitbankError(
            f"torchvision:{name}@{weights.name} can't be downloaded ({error}): fetch "
            f"{weights.url} and give its path after the @"
        ) from error
    for head in _WITH_AUXILIARY_HEADS.get(name, ()):
        module.aux_logits = False
        setattr(module, head, None)
    return module, _inputs(weights)


def current_parameter_name(name: str) -> str:
    """Return a parameter's current name in torchvision: its oldest files have other ones.

    >>> current_parameter_name("features.denseblock1.denselayer1.norm.1.weight")
    'features.denseblock1.denselayer1.norm1.weight'
    """
    for old, new in _OLD_NAMES:
        name = old.sub(new, name)
    return name


def published_top1(weights: Any) -> float | None:
    """Return the top-1 in percent that torchvision publishes for these weights on ImageNet."""
    metrics = weights.meta.get("_metrics", {}).get("ImageNet-1K", {})
    top1 = metrics.get("acc@1")
    return None if top1 is None or math.isnan(top1) else float(top1)


def published_names(name: str) -> list[str]:
    """Return the names of a network's published weights, `DEFAULT` first."""
    return ["DEFAULT", *(each.name for each in _torchvision_models().get_model_weights(name))]


def _inputs(weights: Any) -> Inputs:
    preset = weights.transforms()
    return Inputs(
        input_size=int(preset.crop_size[0]),
        normalisation=Normalisation.of(preset.mean, preset.std),
        resize=int(preset.resize_size[0]),
        interpolation=str(preset.interpolation.value),
    )


def _check_name(name: str) -> None:
    zoo = _torchvision_models()
    names = zoo.list_models(module=zoo)
    if name not in names:
        error = unknown_name("torchvision model", name, names)
        # All eighty names would bury the one that was meant.
        raise UsageError(error.args[0].partition(" (known")[0])


def _torchvision_models() -> ModuleType:
    import torchvision.models  # Takes as long to import as torch, and few runs need it.

    return torchvision.models
