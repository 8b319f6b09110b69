"""Networks by spec: teachers and students, their normalisation and their checkpoints."""

from logitbank.pipeline.models.digest import state_sha256
from logitbank.pipeline.models.loading import LoadedModel, load_model, load_model_for
from logitbank.pipeline.models.normalisation import default_normalisation, normalise

__all__ = [
    "LoadedModel",
    "default_normalisation",
    "load_model",
    "load_model_for",
    "normalise",
    "state_sha256",
]
