"""logitbank: an offline teacher-logit cache for knowledge distillation in image classification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "LogitbankError",
    "Loss",
    "RowSampler",
    "SoftLabels",
    "ViewDataset",
    "__version__",
    "published_loss",
    "register_correction",
]

if TYPE_CHECKING:
    from logitbank.pipeline.losses import Loss, published_loss
    from logitbank.pipeline.soft_labels import SoftLabels
    from logitbank.pipeline.views.dataset import RowSampler, ViewDataset
    from logitbank.stores.corrections import register_correction
    from logitbank.stores.errors import LogitbankError

_HOMES = {
    "SoftLabels": "logitbank.pipeline.soft_labels",
    "ViewDataset": "logitbank.pipeline.views.dataset",
    "RowSampler": "logitbank.pipeline.views.dataset",
    "LogitbankError": "logitbank.stores.errors",
    "Loss": "logitbank.pipeline.losses",
    "published_loss": "logitbank.pipeline.losses",
    "register_correction": "logitbank.stores.corrections",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import logitbank` needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'logitbank' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
