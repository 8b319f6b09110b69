"""Models by spec, KIND:NAME[@WEIGHTS].

The kinds are `cifar` and `imagenet` (networks of the distillation literature), `torchvision`,
`timm` and `import` (`package.module:factory`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from logitbank.pipeline.models.checkpoints import Checkpoint, load_state, read_checkpoint
from logitbank.pipeline.models.cifar import CIFAR_NETWORKS, cifar_network
from logitbank.pipeline.models.imagenet_mobilenet import IMAGENET_NETWORKS, imagenet_network
from logitbank.pipeline.models.imported import imported_model
from logitbank.pipeline.models.inputs import Inputs, parse_inputs
from logitbank.pipeline.models.normalisation import HALF, Normalisation, default_normalisation
from logitbank.pipeline.models.timm_models import (
    fresh_timm_model,
    published_timm_model,
    timm_model,
    timm_tags,
)
from logitbank.pipeline.models.torchvision_models import (
    published_names,
    published_top1,
    torchvision_model,
    torchvision_weights,
)
from logitbank.stores.errors import LogitbankError, UsageError, unknown_name

if TYPE_CHECKING:
    from logitbank.pipeline.datasets import ImageDataset

_USUAL_SIZE = {"cifar": 32, "imagenet": 224, "torchvision": 224, "timm": 224, "import": 224}
KINDS = tuple(_USUAL_SIZE)
_WITH_PUBLISHED_WEIGHTS = ("torchvision", "timm")


@dataclass(frozen=True)
class LoadedModel:
    """A network and all that its inputs depend on.

    `module` maps normalised images (B, 3, input_size, input_size) to logits (B, classes). `resize`
    (the shorter side in pixels) and `interpolation` are how its authors prepare centre crops, None
    where nobody said. `expected_top1` is the accuracy in percent that its weights are published
    with, on ImageNet's validation split.
    """

    module: nn.Module
    spec: str
    classes: int
    input_size: int
    normalisation: Normalisation
    resize: int | None = None
    interpolation: str | None = None
    expected_top1: float | None = None

    @property
    def architecture(self) -> str:
        """The spec without the weights."""
        return self.spec.partition("@")[0]

    def description(self) -> dict[str, Any]:
        """Give what a checkpoint keeps beside the weights, so that it loads as it was trained."""
        return {
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
    """A model's spec in its parts; `weights` is a path, or a library's name, or None."""

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
            `import:package.module:factory[@FILE]`.
        classes: the dataset's.
        normalisation: the dataset's; published weights, timm, a factory and a checkpoint of ours
            win.
        input_size: the side of the dataset's images in pixels; likewise, but a fresh network of
            timm's that takes images of any size takes this one.
        pretrained: a teacher is asked for: it must come with weights, or from an `import:` factory,
            and is returned in evaluation mode, taking no gradients.

    Raises:
        UsageError: an unknown kind, name or weights, or a teacher without weights.
        LogitbankError: the weights can't be read, are of another network or of another number of
            classes, or the network can't take such images.
    """
    parsed = ModelSpec.parse(spec)
    if pretrained and parsed.weights is None and parsed.kind != "import":
        published = f" or {spec}@NAME" if parsed.kind in _WITH_PUBLISHED_WEIGHTS else ""
        raise UsageError(f"a teacher needs weights: {spec}@FILE{published}, not {spec} alone")
    module, inputs, top1 = _build(parsed, classes, input_size)
    model = LoadedModel(
        module=module,
        spec=spec,
        classes=classes,
        input_size=inputs.input_size or input_size or _USUAL_SIZE[parsed.kind],
        normalisation=inputs.normalisation or normalisation or HALF,
        resize=inputs.resize,
        interpolation=inputs.interpolation,
        expected_top1=top1,
    )
    _check_logits(model)
    if pretrained:
        module.eval().requires_grad_(False)
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
    """Give a spec that names the same weights from every folder: a checkpoint by its whole path."""
    architecture, at, weights = spec.partition("@")
    if not at or not Path(weights).exists():
        return spec
    return f"{architecture}@{Path(weights).absolute()}"


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and each part of it back into the mode it was in."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _kind_of(name: str) -> str | None:
    """Find the kind of a network that was named without one."""
    if name in CIFAR_NETWORKS:
        return "cifar"
    return "imagenet" if name in IMAGENET_NETWORKS else None


def _build(
    parsed: ModelSpec, classes: int, input_size: int | None
) -> tuple[nn.Module, Inputs, float | None]:
    """Build a network with its weights; also what is known of its inputs and its accuracy."""
    if parsed.weights is None:
        if parsed.kind == "timm":
            return *fresh_timm_model(parsed.name, classes, input_size), None
        return *_network(parsed, classes), None
    if (published := _published(parsed, parsed.weights, classes)) is not None:
        return published
    # A checkpoint is read before the network is built: the cheaper thing to find wrong first.
    checkpoint = read_checkpoint(parsed.weights)
    module, inputs = _network(parsed, classes)
    load_state(module, checkpoint, str(parsed))
    return module, _described_inputs(checkpoint).or_else(inputs), None


def _published(
    parsed: ModelSpec, weights: str, classes: int
) -> tuple[nn.Module, Inputs, float | None] | None:
    """Build a network with weights that its library publishes; None where they are a file's."""
    if parsed.kind not in _WITH_PUBLISHED_WEIGHTS:
        return None
    if parsed.kind == "timm":
        names = timm_tags(parsed.name)
        if weights in names:
            return *published_timm_model(parsed.name, weights, classes), None
    else:
        published = torchvision_weights(parsed.name, weights)
        if published is not None:
            return *torchvision_model(parsed.name, classes, published), published_top1(published)
        names = published_names(parsed.name)
    if not Path(weights).exists():
        raise unknown_name(f"weights or file for {parsed}", weights, names)
    return None


def _network(parsed: ModelSpec, classes: int) -> tuple[nn.Module, Inputs]:
    if parsed.kind == "cifar":
        return cifar_network(parsed.name, classes), Inputs()
    if parsed.kind == "imagenet":
        return imagenet_network(parsed.name, classes), Inputs()
    if parsed.kind == "torchvision":
        return torchvision_model(parsed.name, classes, None)
    if parsed.kind == "timm":
        return timm_model(parsed.name, classes)
    return imported_model(parsed.name)


def _described_inputs(checkpoint: Checkpoint) -> Inputs:
    described: Mapping[str, Any] = checkpoint.description
    names = ("input_size", "mean", "std", "resize", "interpolation")
    return parse_inputs({name: described.get(name) for name in names}, str(checkpoint.path))


def _check_logits(model: LoadedModel) -> None:
    """Try the network on one black image: what it gives must be one row of logits."""
    side = model.input_size
    try:
        with torch.inference_mode(), evaluation_mode(model.module):
            logits = model.module(torch.zeros(1, 3, side, side))
    except Exception as error:  # a network of the user's may raise anything
        raise LogitbankError(
            f"{model.spec} can't take images of {side} × {side}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2:
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise LogitbankError(f"{model.spec} gives {shape} for an image, not one row of logits")
    if logits.shape[1] != model.classes:
        raise LogitbankError(
            f"{model.spec} has {logits.shape[1]} classes, {model.classes} are asked for"
        )
