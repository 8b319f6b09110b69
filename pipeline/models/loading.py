"""Models by spec, KIND:NAME[@WEIGHTS].

The kinds are `cifar` and `imagenet` (networks of the distillation literature), `torchvision`,
`timm` and `import` (`package.module:factory`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from logitbank.pipeline.models.checkpoints import Checkpoint, load_state, read_checkpoint
from logitbank.pipeline.models.imported import imported_model
from logitbank.pipeline.models.inputs import Inputs, parse_inputs
from logitbank.pipeline.models.normalisation import HALF, Normalisation, default_normalisation
from logitbank.pipeline.models.timm_models import (
    fresh_timm_model,
    published_timm_model,
    timm_file_tag,
    timm_model,
    timm_tags,
)
from logitbank.pipeline.models.torchvision_models import (
    current_parameter_name,
    published_names,
    published_top1,
    published_torchvision_model,
    torchvision_file,
    torchvision_network,
    torchvision_weights,
)
from logitbank.pipeline.models.trial import evaluation_mode, require_logits
from logitbank.pipeline.models.zoo.cifar import CIFAR_NETWORKS, cifar_network
from logitbank.pipeline.models.zoo.imagenet_mobilenet import IMAGENET_NETWORKS, imagenet_network
from logitbank.stores.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from logitbank.pipeline.datasets import ImageDataset

__all__ = [
    "LoadedModel",
    "ModelSpec",
    "WeightsFile",
    "absolute_model_spec",
    "evaluation_mode",
    "load_model",
    "load_model_for",
]

_USUAL_SIZE = {"cifar": 32, "imagenet": 224, "torchvision": 224, "timm": 224, "import": 224}
KINDS = tuple(_USUAL_SIZE)
_WITH_PUBLISHED_WEIGHTS = ("torchvision", "timm")
TRANSFORMS = "transform_input"
"""torchvision's switch, in Inception and GoogLeNet, to normalise again: not in a state dict."""


@dataclass(frozen=True)
class LoadedModel:
    """A network, and all that its inputs depend on.

    `module` maps normalised images (B, 3, input_size, input_size) to logits (B, classes). `resize`
    (the shorter side in pixels) and `interpolation` are how its authors prepare centre crops, None
    if unknown. `expected_top1` is the accuracy in percent that its weights are published with, on
    ImageNet's validation split; `is_original` is False for a file that has the name of published
    weights but not their content.
    """

    module: nn.Module
    spec: str
    classes: int
    input_size: int
    normalisation: Normalisation
    resize: int | None = None
    interpolation: str | None = None
    expected_top1: float | None = None
    is_original: bool = True

    @property
    def required_top1(self) -> float | None:
        """The published accuracy, None if the weights are the published ones only by name."""
        return self.expected_top1 if self.is_original else None

    @property
    def architecture(self) -> str:
        """The spec without the weights."""
        return self.spec.partition("@")[0]

    def description(self) -> dict[str, Any]:
        """Return what a checkpoint keeps beside the weights, to be loaded as it was trained."""
        transforms = bool(getattr(self.module, TRANSFORMS, False))
        return {
            **({TRANSFORMS: True} if transforms else {}),
            "spec": self.architecture,
            "classes": self.classes,
            "input_size": self.input_size,
            "mean": list(self.normalisation.mean),
            "std": list(self.normalisation.std),
            "resize": self.resize,
            "interpolation": self.interpolation,
        }


@dataclass(frozen=True)
class ModelSpec:
    """A model's spec in its parts; `weights` is FILE or FILE#PART, or a library's name, or None."""

    kind: str
    name: str
    weights: str | None

    @classmethod
    def parse(cls, spec: str) -> ModelSpec:
        """Split KIND:NAME[@WEIGHTS].

        Raises:
            UsageError: another form, or an unknown kind.
        """
        architecture, at, weights = spec.partition("@")
        kind, _, name = architecture.partition(":")
        if not name or (at and not weights):
            meant = _kind_of(kind)
            hint = f"; did you mean {meant}:{spec}?" if meant else ""
            raise UsageError(f"a model is KIND:NAME or KIND:NAME@WEIGHTS, not {spec!r}{hint}")
        if kind not in KINDS:
            raise unknown_name("kind of model", kind, KINDS)
        return cls(kind, name, weights or None)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights, and the part of it to load, None for the whole of it."""

    path: Path
    part: str | None

    @classmethod
    def parse(cls, weights: str) -> WeightsFile:
        """Split FILE[#PART]; `~` is the user's home. A file whose own name contains a # wins."""
        path = os.path.expanduser(weights)
        file, mark, part = path.rpartition("#")
        if not mark or not file or not part or Path(path).exists():
            return cls(Path(path), None)
        return cls(Path(file), part)

    def absolute(self) -> str:
        """Return FILE[#PART] with the file's absolute path."""
        return str(self.path.absolute()) + ("" if self.part is None else f"#{self.part}")


def load_model(
    spec: str,
    *,
    classes: int,
    normalisation: Normalisation | None = None,
    input_size: int | None = None,
    pretrained: bool = False,
) -> LoadedModel:
    """Build a network and load its weights, if the spec names any.

    Args:
        spec: `cifar:resnet8x4[@FILE]`, `imagenet:MobileNetV1[@FILE]`,
            `torchvision:resnet34[@DEFAULT|IMAGENET1K_V1|FILE]`, `timm:resnet18[@a1_in1k|FILE]`,
            `import:package.module:factory[@FILE]`; `FILE#PART` names one of several state dicts
            (see `checkpoints.load_state`). A FILE that a library publishes has the inputs of the
            published weights.
        classes: the number of the dataset's classes.
        normalisation: the dataset's; published weights, timm, a factory and a checkpoint of ours
            take precedence.
        input_size: the side of the dataset's images in pixels; likewise, but a fresh network of
            timm's that takes images of any size takes this one.
        pretrained: whether to load a teacher, which must come with weights, or from an `import:`
            factory, and is returned in evaluation mode, without gradients.

    Raises:
        UsageError: an unknown kind, name or weights, or a teacher without weights.
        LogitbankError: the weights can't be read, are of another network or of another number of
            classes, or the network can't take such images.
    """
    parsed = ModelSpec.parse(spec)
    if pretrained and parsed.weights is None and parsed.kind != "import":
        published = f" or {spec}@NAME" if parsed.kind in _WITH_PUBLISHED_WEIGHTS else ""
        raise UsageError(f"a teacher needs weights: {spec}@FILE{published}, not {spec} alone")
    built = _build(parsed, classes, input_size)
    module, inputs = built.module, built.inputs
    model = LoadedModel(
        module=module,
        spec=spec,
        classes=classes,
        input_size=inputs.input_size or input_size or _USUAL_SIZE[parsed.kind],
        normalisation=inputs.normalisation or normalisation or HALF,
        resize=inputs.resize,
        interpolation=inputs.interpolation,
        expected_top1=built.top1,
        is_original=built.is_original,
    )
    require_logits(module, spec, model.input_size, classes)
    if pretrained:
        module.eval()
        for parameter in module.parameters():  # TorchScript modules have no requires_grad_
            parameter.requires_grad_(False)
    return model


def load_model_for(spec: str, dataset: ImageDataset, *, pretrained: bool = False) -> LoadedModel:
    """Load a model for a dataset, whose classes, normalisation and image size are its defaults.

    Raises:
        UsageError, LogitbankError: as `load_model`.
    """
    images = dataset.images
    return load_model(
        spec,
        classes=len(dataset.classes),
        normalisation=default_normalisation(dataset),
        input_size=None if images is None else images.shape[1],
        pretrained=pretrained,
    )


def absolute_model_spec(spec: str) -> str:
    """Return a spec that names the same weights from any folder: checkpoints by absolute path."""
    architecture, at, weights = spec.partition("@")
    file = WeightsFile.parse(weights)
    if not at or not file.path.exists():
        return spec
    return f"{architecture}@{file.absolute()}"


@dataclass(frozen=True)
class _Built:
    """A network with its weights, and what is known of its inputs and accuracy."""

    module: nn.Module
    inputs: Inputs
    top1: float | None = None
    is_original: bool = True


def _kind_of(name: str) -> str | None:
    """Return the kind of a network that was named without one."""
    if name in CIFAR_NETWORKS:
        return "cifar"
    return "imagenet" if name in IMAGENET_NETWORKS else None


def _build(parsed: ModelSpec, classes: int, input_size: int | None) -> _Built:
    if parsed.weights is None:
        if parsed.kind == "timm":
            return _Built(*fresh_timm_model(parsed.name, classes, input_size))
        return _Built(*_network(parsed, classes))
    if (published := _published(parsed, parsed.weights, classes)) is not None:
        return published
    # A checkpoint is read before the network is built: cheaper errors come first.
    file = WeightsFile.parse(parsed.weights)
    checkpoint = read_checkpoint(file.path, file.part)
    built = _network_for(parsed, checkpoint, classes)
    is_torchvisions = parsed.kind == "torchvision"
    load_state(
        built.module, checkpoint, str(parsed), current_parameter_name if is_torchvisions else str
    )
    return built


def _published(parsed: ModelSpec, weights: str, classes: int) -> _Built | None:
    """Build a network with weights that its library publishes; None if they are a file's."""
    if parsed.kind not in _WITH_PUBLISHED_WEIGHTS:
        return None
    if parsed.kind == "timm":
        names = timm_tags(parsed.name)
        if weights in names:
            return _Built(*published_timm_model(parsed.name, weights, classes))
    else:
        published = torchvision_weights(parsed.name, weights)
        if published is not None:
            module, inputs = published_torchvision_model(parsed.name, classes, published)
            return _Built(module, inputs, published_top1(published))
        names = published_names(parsed.name)
    if not WeightsFile.parse(weights).path.exists():
        raise unknown_name(f"weights or file for {parsed}", weights, names)
    return None


def _network_for(parsed: ModelSpec, checkpoint: Checkpoint, classes: int) -> _Built:
    """Build the network of a checkpoint, as the checkpoint or its library describes it."""
    path, name, about = checkpoint.path, parsed.name, checkpoint.description
    if parsed.kind == "torchvision" and not about:
        file = torchvision_file(name, path, classes)
        if file is not None:
            module, inputs = torchvision_network(name, classes, file.weights)
            return _Built(module, inputs, published_top1(file.weights), file.is_original)
    if parsed.kind == "timm" and not about:
        tag = timm_file_tag(name, path, classes)
        name = name if tag is None else f"{name.partition('.')[0]}.{tag}"
    module, inputs = _network(replace(parsed, name=name), classes)
    if about.get(TRANSFORMS) is True:
        setattr(module, TRANSFORMS, True)
    return _Built(module, _described_inputs(checkpoint).or_else(inputs))


def _network(parsed: ModelSpec, classes: int) -> tuple[nn.Module, Inputs]:
    if parsed.kind == "cifar":
        return cifar_network(parsed.name, classes), Inputs()
    if parsed.kind == "imagenet":
        return imagenet_network(parsed.name, classes), Inputs()
    if parsed.kind == "torchvision":
        return torchvision_network(parsed.name, classes)
    if parsed.kind == "timm":
        return timm_model(parsed.name, classes)
    return imported_model(parsed.name)


def _described_inputs(checkpoint: Checkpoint) -> Inputs:
    described: Mapping[str, Any] = checkpoint.description
    names = ("input_size", "mean", "std", "resize", "interpolation")
    return parse_inputs({name: described.get(name) for name in names}, str(checkpoint.path))
