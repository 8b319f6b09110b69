"""The user's own networks: `import:package.module:factory`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from logitbank.pipeline.models.inputs import Inputs, parse_inputs
from logitbank.stores.errors import LogitbankError, UsageError
from logitbank.stores.importing import import_factory


def imported_model(name: str) -> tuple[nn.Module, Inputs]:
    """Return the network and inputs of `factory()`: a module, or (module, dict of its inputs).

    The dict holds any of `input_size`, `mean`, `std`, `resize`, `interpolation`.

    Raises:
        UsageError: there is no such factory, or it returns anything else.
        LogitbankError: the factory itself failed, or the network's weights have no values or can't
            be identified.
    """
    factory = import_factory(name)
    try:
        made = factory()
    except Exception as error:  # the user's factory may raise anything
        raise LogitbankError(f"import:{name} failed: {type(error).__name__}: {error}") from error
    module, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    if not isinstance(module, nn.Module) or not isinstance(inputs, Mapping):
        raise UsageError(
            f"import:{name} returned a {type(made).__name__}: expected a torch.nn.Module, or the "
            "pair (module, dict(input_size=…, mean=…, std=…))"
        )
    _require_weights(name, module)
    return module, parse_inputs(inputs, f"import:{name}")


def _require_weights(name: str, module: nn.Module) -> None:
    tensors = [*module.parameters(), *module.buffers()]
    if any(each.is_meta for each in tensors):
        raise LogitbankError(
            f"import:{name} returned a network on the meta device, whose weights have no values: "
            "build it on the CPU"
        )
    if isinstance(module, torch.jit.ScriptModule) and not tensors:
        raise LogitbankError(
            f"import:{name} returned a frozen TorchScript module, without a state dict to know its "
            "weights by: return it as it was before torch.jit.freeze"
        )
