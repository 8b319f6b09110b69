"""The student at work: its network, its optimiser, and one step of them."""

from __future__ import annotations

from typing import Any

import torch

from logitbank.pipeline.models import LoadedModel, normalise
from logitbank.pipeline.student.batches import Batch
from logitbank.pipeline.student.config import TrainConfig
from logitbank.pipeline.student.objective import Terms, batch_loss
from logitbank.stores.errors import LogitbankError, UsageError


class Learner:
    """A network under SGD with momentum, in mixed precision where the configuration asks for it.

    Args:
        model: the student, moved to the configured device and memory format.
        config: resolved.
    """

    def __init__(self, model: LoadedModel, config: TrainConfig) -> None:
        self.model = model
        self.device = torch.device(config.device or "cpu")
        self._weights = config.weights
        self._amp = config.amp
        self._layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self._module = model.module.to(self.device).to(memory_format=self._layout)
        self._optimiser = torch.optim.SGD(
            self._module.parameters(),
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self._scaler = torch.amp.GradScaler("cuda", enabled=config.amp)

    def begin_epoch(self, lr: float) -> None:
        """Set the learning rate, and the network into training mode."""
        self._module.train()
        for group in self._optimiser.param_groups:
            group["lr"] = lr

    def step(self, batch: Batch, teacher_logits: torch.Tensor | None) -> Terms:
        """Descend one step on a batch.

        Args:
            batch: on the learner's device.
            teacher_logits: (B, C) float32 on the device, None where labels alone are learned from.

        Returns:
            The loss and its terms before the step, without gradients.

        Raises:
            UsageError: a batch of one image, which this network can't be trained on.
            LogitbankError: the device's memory doesn't suffice.
        """
        try:
            logits = self._logits(batch.pixels)
            terms = batch_loss(self._weights, logits, batch.targets, teacher_logits)
            self._optimiser.zero_grad(set_to_none=True)
            self._scaler.scale(terms["loss"]).backward()
        except torch.OutOfMemoryError as error:
            raise LogitbankError(
                f"{self.device} has too little memory for batches of {len(batch.rows)}: lower "
                "--batch-size, or try --amp"
            ) from error
        self._scaler.step(self._optimiser)
        self._scaler.update()
        return {name: value.detach() for name, value in terms.items()}

    def state(self) -> dict[str, Any]:
        """Give what the next step depends on, besides the network's own state."""
        return {"optimiser": self._optimiser.state_dict(), "scaler": self._scaler.state_dict()}

    def load_state(self, network: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Put network, optimiser and scaler back to where `state` was taken."""
        self._module.load_state_dict(network)
        self._optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])

    def _logits(self, pixels: torch.Tensor) -> torch.Tensor:
        images = normalise(pixels, self.model.normalisation)
        images = images.contiguous(memory_format=self._layout)
        try:
            with torch.autocast(self.device.type, torch.float16, enabled=self._amp):
                return self._module(images)
        except ValueError as error:
            if len(pixels) > 1 or "more than 1 value per channel" not in str(error):
                raise
            raise UsageError(
                f"an epoch's last batch is a single image, on which {self.model.spec} can't be "
                "trained (batch norm): give another --batch-size"
            ) from error
