"""The identity of a network's weights."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def state_sha256(module: nn.Module) -> str:
    """Return the sha256 hex of the state dict: each tensor's name, dtype, shape and bytes.

    Tensors are taken in state dict order, in row-major order whatever their memory format or
    device; values that are not tensors are left out.
    """
    sha = hashlib.sha256()
    for name, value in module.state_dict().items():
        if isinstance(value, torch.Tensor):
            shape = ",".join(map(str, value.shape))
            sha.update(f"{name} {value.dtype} ({shape})\n".encode())
            flat = value.detach().cpu().contiguous().reshape(-1)
            sha.update(flat.view(torch.uint8).numpy().data)
    return sha.hexdigest()
