"""torchvision's classification networks and published weights."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import nn

from logitbank.pipeline.models.inputs import Inputs
from logitbank.pipeline.models.normalisation import Normalisation
from logitbank.stores.errors import LogitbankError, UsageError, unknown_name

_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


def torchvision_weights(name: str, weights: str) -> Any | None:
    """Find a network's published weights by name, `DEFAULT` or such as `IMAGENET1K_V2`.

    Returns:
        A member of the network's weights enum, None if it has no weights of that name.

    Raises:
        UsageError: torchvision has no such classification network.
    """
    _check_name(name)
    return _torchvision_models().get_model_weights(name).__members__.get(weights)


def torchvision_model(name: str, classes: int, weights: Any | None) -> tuple[nn.Module, Inputs]:
    """Build a network, with published weights where a member of its enum is given.

    Raises:
        UsageError: torchvision has no such classification network.
        LogitbankError: the weights are of another number of classes, or can't be downloaded.
    """
    _check_name(name)
    options: dict[str, Any] = {}
    if name in _WITH_AUXILIARY_HEADS:
        options["aux_logits"] = False
    if weights is None:
        if name in _WITH_AUXILIARY_HEADS:
            options["init_weights"] = True
        return _torchvision_models().get_model(name, num_classes=classes, **options), Inputs()
    known = len(weights.meta["categories"])
    if known != classes:
        raise LogitbankError(
            f"torchvision:{name}@{weights.name} has {known} classes, {classes} are asked for"
        )
    try:
        module = _torchvision_models().get_model(name, weights=weights, **options)
    except (OSError, RuntimeError) as error:
        raise LogitbankError(
            f"torchvision:{name}@{weights.name} can't be downloaded ({error}): fetch "
            f"{weights.url} and give its path after the @"
        ) from error
    return module, _inputs(weights)


def published_top1(weights: Any) -> float | None:
    """Give the top-1 in percent that torchvision publishes for these weights on ImageNet."""
    metrics = weights.meta.get("_metrics", {}).get("ImageNet-1K", {})
    top1 = metrics.get("acc@1")
    return None if top1 is None else float(top1)


def published_names(name: str) -> list[str]:
    """List the names of a network's published weights, `DEFAULT` first."""
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
