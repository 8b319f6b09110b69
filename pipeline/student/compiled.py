"""Networks compiled by torch.compile, with errors of one line."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from logitbank.stores.errors import LogitbankError, unknown_name

Forward = Callable[[torch.Tensor], torch.Tensor]


def compiled(module: nn.Module, backend: str) -> Forward:
    """Return a network's forward pass, compiled when it is first called.

    Each batch shape is compiled separately: a kernel for any shape rounds differently from the one
    for this shape, and which of them is used would depend on what the process has seen before, so
    that a resumed run would end with other weights.

    Args:
        module: its weights stay where they are, and its state dict as it is.
        backend: torch's name of one, such as `inductor`.

    Raises:
        UsageError: torch knows no such backend; the nearest is suggested.
        LogitbankError: from the forward pass, if the network can't be compiled on this machine.
    """
    from torch._dynamo.exc import TorchDynamoException  # Slow to import.

    known = torch.compiler.list_backends(exclude_tags=())
    if backend not in known:
        raise unknown_name("backend of --torchcompile", backend, known)
    network = torch.compile(module, backend=backend, dynamic=False)

    def forward(images: torch.Tensor) -> torch.Tensor:
        try:
            return network(images)
        except TorchDynamoException as error:
            reason = next(filter(None, map(str.strip, str(error).splitlines())), "no reason given")
            raise LogitbankError(
                f"torch.compile with {backend} fails here ({reason}): train without --torchcompile"
            ) from error

    return forward
