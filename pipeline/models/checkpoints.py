"""Checkpoints: files of a network's weights, ours and other people's."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from logitbank.pipeline.models.state_dicts import (
    BATCH_COUNT,
    Place,
    State,
    StateDict,
    distinct,
    named,
    places,
    plain_names,
    state_dicts,
)
from logitbank.pipeline.models.weight_files import load_weights
from logitbank.stores.errors import LogitbankError

DESCRIPTION = "logitbank"
"""The key under which our files describe the network, beside `model`, its state dict."""

_OURS = "model"
_NAMES_SHOWN = 4
_PROFILED = ("total_ops", "total_params")
_AVERAGES_COUNT = "n_averaged"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """The content of a file of weights.

    `found` are its state dicts, of CPU tensors. `description` is the network's in a file of ours
    (`LoadedModel.description`), empty for other people's files. `part` is the requested place in
    it, as `state_dicts.named` takes it.
    """

    path: Path
    found: tuple[StateDict, ...]
    description: Mapping[str, Any]
    part: str | None = None


def read_checkpoint(path: str | Path, part: str | None = None) -> Checkpoint:
    """Read a file of weights: state dicts, bare or under any keys.

    Of a file of ours only `model` is read, unless a part is requested: it holds other state dicts
    of its training as well. Nothing in a file is executed (see `load_tensors`).

    Raises:
        LogitbankError: there is no such file, it is not a checkpoint, or it holds other classes.
    """
    path = Path(path)
    content = load_weights(path)
    if not isinstance(content, Mapping):
        raise LogitbankError(
            f"{path} is not a checkpoint: it holds a {type(content).__name__}, not a state dict"
        )
    description = content.get(DESCRIPTION)
    if not isinstance(description, Mapping):
        description = {}
    elif part is None:
        content = {_OURS: content.get(_OURS)}
    found = state_dicts(content)
    if not found:
        holds = ", ".join(map(str, list(content)[:_NAMES_SHOWN])) or "nothing"
        raise LogitbankError(
            f"{path} is not a checkpoint: no state dict under 'model' or 'state_dict' or another "
            f"key, and it is not one itself (it holds {holds})"
        )
    return Checkpoint(path, found, description, part)


def load_state(
    module: nn.Module,
    checkpoint: Checkpoint,
    architecture: str,
    rename: Callable[[str], str] = str,
) -> None:
    """Load a checkpoint's weights into a network with exactly these parameters.

    Of several state dicts the one that fits is loaded. If raw and averaged weights fit, the
    averaged ones are, as in timm, with a warning; of other different ones, one must be named.

    Args:
        module: the network; changed in place.
        checkpoint: one of its state dicts must have the network's names and shapes, with or without
            a prefix. Counts of batches, which old files lack and nothing reads, may be missing;
            auxiliary heads that the network was built without may be present.
        architecture: the network's spec, for the message.
        rename: returns a parameter's current name.

    Raises:
        LogitbankError: the checkpoint is of another network (the message lists what differs, or
            states the number of classes), or several different places of it fit.
    """
    own = _Network.of(module)
    every = places([each.renamed(rename) for each in checkpoint.found], list(own.tensors))
    asked = every if checkpoint.part is None else named(every, checkpoint.part)
    if every and not asked:
        raise LogitbankError(
            f"{checkpoint.path} holds nothing of {architecture} under {checkpoint.part!r}: it "
            f"holds {_some([each.name or 'the file itself' for each in _nearest_first(every)])}"
        )
    whole = [each for each in every if each.count >= len(own.required)]
    fitting = [each for each in whole if each in asked and not own.differences(_alone(each, whole))]
    if checkpoint.part is None:
        usual = [each for each in fitting if each.is_usual() or not own.left_out(each)]
        if fitting and not usual:
            raise LogitbankError(_fits_in_part(checkpoint, architecture, fitting[0], own))
        fitting = usual
    if not fitting:
        raise LogitbankError(_mismatch(checkpoint, architecture, asked, own))
    chosen = _choose(checkpoint.path, distinct(fitting, own.required))
    if checkpoint.part is None:
        _warn_of_unused(checkpoint, chosen, fitting, own)
    _put(module, chosen, own, checkpoint.path)


@dataclass(frozen=True)
class _Network:
    """A network's state dict by names without wrappers, and what may be ignored beside it."""

    module: nn.Module
    tensors: State
    plain: Mapping[str, str]

    @classmethod
    def of(cls, module: nn.Module) -> _Network:
        state = {key: each for key, each in module.state_dict().items() if torch.is_tensor(each)}
        plain = plain_names(state)
        return cls(module, {plain[key]: each for key, each in state.items()}, plain)

    @cached_property
    def buffers(self) -> dict[str, torch.Tensor]:
        return dict(self.module.named_buffers())

    @cached_property
    def required(self) -> list[str]:
        return [name for name in self.tensors if not name.endswith(BATCH_COUNT)]

    def differences(self, tensors: State) -> list[str]:
        """Return how the tensors of a file differ from the network's; nothing if they fit."""
        other = {name: each for name, each in tensors.items() if not self._is_ignored(name, each)}
        return _differences(self.tensors, other)

    def left_out(self, place: Place) -> list[str]:
        """Return the names beside a place that are more than counts."""
        tensors = place.source.tensors
        return [name for name in place.beside() if not self._is_ignored(name, tensors[name])]

    def _is_ignored(self, name: str, tensor: torch.Tensor) -> bool:
        """Return whether a tensor that the network does not have can be ignored."""
        if name in self.tensors:
            return False
        last = name.rpartition(".")[2]
        if last in _PROFILED or last in (_AVERAGES_COUNT, BATCH_COUNT):
            return True
        head = name.partition(".")[0]
        if head.lower().startswith("aux") and getattr(self.module, head, self) is None:
            return True
        # A buffer that used to be saved, and is now computed.
        computed = self.buffers.get(name)
        return computed is not None and torch.equal(computed.cpu(), tensor)


def _nearest_first(found: Sequence[Place]) -> list[Place]:
    """Sort places by how many of the network's names they have, most first."""
    return sorted(found, key=lambda place: -place.count)


def _alone(place: Place, whole: Sequence[Place]) -> State:
    """Return the tensors under a prefix, except those under a longer one that is complete."""
    longer = tuple(
        each.prefix.removeprefix(place.prefix)
        for each in whole
        if each.source is place.source
        and each is not place
        and each.prefix.startswith(place.prefix)
    )
    tensors = place.tensors()
    if not longer:
        return tensors
    return {name: each for name, each in tensors.items() if not name.startswith(longer)}


def _choose(path: Path, different: Sequence[Place]) -> Place:
    """Return one of the places that fit and differ: the averaged one of raw and averaged."""
    if len(different) == 1:
        return different[0]
    averaged = [each for each in different if each.is_averaged]
    if len(different) == 2 and len(averaged) == 1:
        chosen = averaged[0]
        (raw,) = (each for each in different if each is not chosen)
        _LOG.warning(
            "%s holds raw and averaged weights: the averaged ones (%s) are taken, as timm takes "
            "them; @%s#raw takes the others (%s), #ema these without this line",
            path,
            chosen.name,
            path,
            raw.name or "the file itself",
        )
        return chosen
    choices = " or ".join(f"@{path}#{each.name or 'raw'}" for each in different[:_NAMES_SHOWN])
    more = len(different) - _NAMES_SHOWN
    raise LogitbankError(
        f"{path} holds {len(different)} different sets of weights that fit: choose one, {choices}"
        + (f" and {more} more" if more > 0 else "")
    )


def _warn_of_unused(
    checkpoint: Checkpoint, chosen: Place, fitting: Sequence[Place], own: _Network
) -> None:
    """Warn of averaged weights that don't fit, and of tensors beside a prefix."""
    if not chosen.is_averaged:
        fit = {each.source.keys for each in fitting}
        for each in checkpoint.found:
            averaged = Place(each, "", 0).is_averaged and each.keys not in fit
            if averaged and 2 * len(each.tensors) >= len(list(own.module.parameters())):
                _LOG.warning(
                    "%s: its averaged weights (%s) are not all of the network's state, and are "
                    "left out: the raw ones are taken",
                    checkpoint.path,
                    each.keys,
                )
    others = tuple(
        each.prefix for each in fitting if each.source is chosen.source and each is not chosen
    )
    left = [name for name in own.left_out(chosen) if not (others and name.startswith(others))]
    if left:
        _LOG.warning(
            "%s: what lies under %s is taken; beside it, and left out: %s",
            checkpoint.path,
            chosen.name,
            _some(left),
        )


def _put(module: nn.Module, place: Place, own: _Network, path: Path) -> None:
    tensors = place.tensors()
    state = OrderedDict(
        (key, tensors[plain]) for key, plain in own.plain.items() if plain in tensors
    )
    versions = place.versions()
    is_plain = all(key == plain for key, plain in own.plain.items())
    # Some networks read old formats by their version, and refuse a state dict without one.
    state._metadata = (  # type: ignore[attr-defined]
        versions if versions and is_plain else module.state_dict()._metadata  # type: ignore[attr-defined]
    )
    try:
        module.load_state_dict(state, strict=False)
    except Exception as error:  # a user's network may raise anything
        raise LogitbankError(
            f"{path} can't be loaded: {type(error).__name__}: {' '.join(str(error).split())}"
        ) from error


def _fits_in_part(checkpoint: Checkpoint, architecture: str, place: Place, own: _Network) -> str:
    return (
        f"{_origin(checkpoint)} is more than a checkpoint of {architecture}: its part "
        f"{place.prefix.rstrip('.')!r} fits, and beside it are {_some(own.left_out(place))}; "
        f"@{checkpoint.path}#{place.name} takes that part alone"
    )


def _mismatch(
    checkpoint: Checkpoint, architecture: str, asked: Sequence[Place], own: _Network
) -> str:
    """Return how the place with most of the network's names differs from it."""
    if asked:
        nearest = _nearest_first(asked)[0]
    else:
        largest = max(checkpoint.found, key=lambda each: len(each.tensors))
        nearest = Place(largest, "", 0)
    differences = "; ".join(own.differences(nearest.tensors()))
    return f"{_origin(checkpoint)} is not a checkpoint of {architecture}: {differences}"


def _origin(checkpoint: Checkpoint) -> str:
    origin = checkpoint.description.get("spec")
    of = f" (it was made for {origin})" if isinstance(origin, str) else ""
    return f"{checkpoint.path}{of}"


def _differences(own: State, other: State) -> list[str]:
    missing = [key for key in own if key not in other and not key.endswith(BATCH_COUNT)]
    unexpected = [key for key in other if key not in own]
    shared = [key for key in own if key in other]
    reshaped = [key for key in shared if own[key].shape != other[key].shape]
    rounded = [key for key in shared if own[key].is_floating_point() > _is_real(other[key])]
    lines = []
    head = [key for key in reshaped if _same_but_first(own[key], other[key])]
    if reshaped and head == reshaped and _is_head(list(own), reshaped):
        key = reshaped[-1]
        lines.append(f"it has {len(other[key])} classes, expected {len(own[key])}")
    if missing:
        lines.append(f"missing {_some(missing)}")
    if unexpected:
        lines.append(f"unexpected {_some(unexpected)}")
    if reshaped:
        shown = [f"{key} {_shape(other[key])} for {_shape(own[key])}" for key in reshaped]
        lines.append(f"other shapes {_some(shown)}")
    if rounded:
        dtypes = [f"{key} {str(other[key].dtype).removeprefix('torch.')}" for key in rounded]
        lines.append(f"not real numbers {_some(dtypes)}")
    return lines


def _is_real(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and not tensor.is_meta


def _is_head(own: Sequence[str], reshaped: Sequence[str]) -> bool:
    """Return whether the reshaped entries are the last layer's, all of one module."""
    modules = {key.rpartition(".")[0] for key in reshaped}
    return reshaped[-1] == own[-1] and len(modules) == 1


def _same_but_first(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dim() > 0 and a.dim() == b.dim() and a.shape[1:] == b.shape[1:]


def _shape(tensor: torch.Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
