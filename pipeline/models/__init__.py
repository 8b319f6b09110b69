"""Networks by spec: teachers and students, their normalisation and their checkpoints."""

from logitbank.pipeline.models.digest import state_sha256
from logitbank.pipeline.models.loading import LoadedModel, load_model
from logitbank.pipeline.models.normalisation import (
    Normalisation,
    default_normalisation,
    normalise,
)

__all__ = [
    "LoadedModel",
    "Normalisation",
    "default_normalisation",
    "load_model",
    "normalise",
    "state_sha256",
]
