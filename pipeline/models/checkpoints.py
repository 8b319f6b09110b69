"""Checkpoints: the files that hold a network's weights, ours and other people's."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from logitbank.stores.errors import LogitbankError

DESCRIPTION = "logitbank"
"""Where a file of ours keeps what it says of the network, beside `model`, its state dict."""

_NAMES_SHOWN = 4
_BATCH_COUNT = "num_batches_tracked"


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights holds.

    `state` maps parameter names, without a `module.` prefix, to CPU tensors. `description` is what
    a file of ours says of the network (`LoadedModel.description`), empty for other people's files.
    """

    path: Path
    state: dict[str, torch.Tensor]
    description: Mapping[str, Any]


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a file of weights: a state dict, bare or under `model` or `state_dict`.

    A file named `.safetensors`, as timm's hub has them, is a bare state dict by its format.

    Nothing in the file is executed: torch's weights-only unpickler reads it, and of other classes
    only `argparse.Namespace` is allowed, which RepDistiller's files hold.

    Raises:
        LogitbankError: there is no such file, it is no checkpoint, or it holds other classes.
    """
    path = Path(path)
    load = _load_safetensors if path.suffix == ".safetensors" else load_tensors
    content = load(path)
    if not isinstance(content, Mapping):
        raise LogitbankError(
            f"{path} is not a checkpoint: it holds a {type(content).__name__}, not a state dict"
        )
    state = next(
        (content[key] for key in ("model", "state_dict") if isinstance(content.get(key), Mapping)),
        content,
    )
    tensors = {str(key): value for key, value in state.items() if torch.is_tensor(value)}
    if not tensors or (state is content and len(tensors) < len(content)):
        found = ", ".join(map(str, list(content)[:_NAMES_SHOWN])) or "nothing"
        raise LogitbankError(
            f"{path} is not a checkpoint: no state dict under 'model' or 'state_dict', and it is "
            f"none itself (it holds {found})"
        )
    description = content.get(DESCRIPTION)
    return Checkpoint(
        path, _without_prefix(tensors), description if isinstance(description, Mapping) else {}
    )


def load_tensors(path: Path) -> Any:
    """Read any file that `torch.save` wrote of tensors and plain values, onto the CPU.

    Raises:
        LogitbankError: there is no such file, or it can't be read so.
    """
    _require_file(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise LogitbankError(f"{path} can't be read: {error.strerror}") from error
    except Exception as error:  # what the unpickler raises on foreign bytes is anything
        raise LogitbankError(_why_unreadable(path, error)) from error


def _load_safetensors(path: Path) -> Any:
    _require_file(path)
    try:
        from safetensors import SafetensorError  # Comes with timm, and few files are of its format.
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise LogitbankError(
            f"{path} needs a package that is not installed: pip install safetensors"
        ) from error
    try:
        return load_file(path)
    except PermissionError as error:
        raise LogitbankError(f"{path} can't be read: {error.strerror}") from error
    except SafetensorError as error:
        raise LogitbankError(
            f"{path} is not a checkpoint, or a damaged one: safetensors can't read it ({error})"
        ) from error


def _require_file(path: Path) -> None:
    if not path.is_file():
        what = "a folder" if path.is_dir() else "no such file"
        raise LogitbankError(f"there is no checkpoint at {path}: {what}")


def load_state(module: nn.Module, checkpoint: Checkpoint, architecture: str) -> None:
    """Put a checkpoint's weights into a network of the very same parameters.

    Args:
        module: the network; changed in place.
        checkpoint: its `state` must have the network's names and shapes. Counts of batches, which
            old files lack and nothing reads, may be missing.
        architecture: the network's spec, for the message.

    Raises:
        LogitbankError: the checkpoint is of another network; what differs is listed, the number of
            classes plainly.
    """
    own = {key: value for key, value in module.state_dict().items() if torch.is_tensor(value)}
    if differences := _differences(own, checkpoint.state):
        origin = checkpoint.description.get("spec")
        of = f" (it says it is of {origin})" if isinstance(origin, str) else ""
        raise LogitbankError(
            f"{checkpoint.path}{of} is not a checkpoint of {architecture}: {'; '.join(differences)}"
        )
    module.load_state_dict(checkpoint.state, strict=False)


def _differences(own: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> list[str]:
    missing = [key for key in own if key not in other and not key.endswith(_BATCH_COUNT)]
    unexpected = [key for key in other if key not in own]
    reshaped = [key for key in own if key in other and own[key].shape != other[key].shape]
    lines = []
    head = [key for key in reshaped if _same_but_first(own[key], other[key])]
    if reshaped and head == reshaped and _is_head(list(own), reshaped):
        key = reshaped[-1]
        lines.append(f"it has {len(other[key])} classes, {len(own[key])} are asked for")
    if missing:
        lines.append(f"missing {_some(missing)}")
    if unexpected:
        lines.append(f"unexpected {_some(unexpected)}")
    if reshaped:
        shown = [f"{key} {_shape(other[key])} for {_shape(own[key])}" for key in reshaped]
        lines.append(f"other shapes {_some(shown)}")
    return lines


def _is_head(own: Sequence[str], reshaped: Sequence[str]) -> bool:
    """Tell whether the reshaped entries are the last layer's, all of one module."""
    modules = {key.rpartition(".")[0] for key in reshaped}
    return reshaped[-1] == own[-1] and len(modules) == 1


def _same_but_first(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dim() > 0 and a.dim() == b.dim() and a.shape[1:] == b.shape[1:]


def _shape(tensor: torch.Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _without_prefix(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Drop the `module.` that DataParallel puts before every name."""
    prefix = "module." if all(key.startswith("module.") for key in state) else ""
    return {key.removeprefix(prefix): value for key, value in state.items()}


def _why_unreadable(path: Path, error: Exception) -> str:
    if refused := re.search(r"GLOBAL (\S+)", str(error)):
        return (
            f"{path} holds more than weights ({refused[1]}), which is not loaded since it could "
            "run code: save the state dict alone, torch.save(model.state_dict(), FILE)"
        )
    return f"{path} is not a checkpoint, or a damaged one: torch.load can't read it"
