"""The trainer of a student: its network, its optimiser, and one step of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from logitbank.pipeline.losses import Terms, ViewLogits
from logitbank.pipeline.models import LoadedModel, normalise
from logitbank.pipeline.student.average import WeightAverage
from logitbank.pipeline.student.batches import Batch
from logitbank.pipeline.student.compiled import Forward, compiled
from logitbank.pipeline.student.config import TrainConfig
from logitbank.pipeline.student.resolution import loss_of
from logitbank.stores.errors import LogitbankError, UsageError


class ViewBatch(NamedTuple):
    """One view of some images, and the teacher's (B, C) float32 logits of it.

    `teacher_logits` is None for a loss that learns from labels alone.
    """

    batch: Batch
    teacher_logits: torch.Tensor | None


class Trainer:
    """A network under SGD with momentum, in mixed precision where the configuration asks for it.

    What a loss trains besides the network, CTKD's temperature, is in the same optimiser.
    `average` is the moving average of the weights, None if none was requested.

    Args:
        model: the student, moved to the configured device and memory format.
        config: resolved.
    """

    def __init__(self, model: LoadedModel, config: TrainConfig) -> None:
        self.model = model
        self.device = torch.device(config.device or "cpu")
        self._loss = loss_of(config)
        self._amp = config.amp
        self._layout = torch.channels_last if config.channels_last else torch.contiguous_format
        self._module = model.module.to(self.device).to(memory_format=self._layout)
        self._forward: Forward = self._module
        if config.torchcompile is not None:
            self._forward = compiled(self._module, config.torchcompile)
        self._learned = self._loss.learned_module()
        parameters = list(self._module.parameters())
        if self._learned is not None:
            parameters += self._learned.to(self.device).parameters()
        self._optimiser = torch.optim.SGD(
            parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        self._scaler = torch.amp.GradScaler("cuda", enabled=config.amp)
        self.average = WeightAverage(model, config.model_ema_decay) if config.model_ema else None
        self._accumulated = config.grad_accum_steps
        self._epoch, self._batches, self._seen = 0, 0, 0

    def begin_epoch(self, epoch: int, lr: float, batches: int) -> None:
        """Begin an epoch of `batches` batches: set the learning rate and training mode."""
        self._epoch, self._batches, self._seen = epoch, batches, 0
        self._module.train()
        for group in self._optimiser.param_groups:
            group["lr"] = lr

    def step(self, weak: ViewBatch, strong: ViewBatch | None = None) -> Terms:
        """Learn from a batch, and take a step once enough of them are accumulated.

        Args:
            weak: on the trainer's device.
            strong: the strong views of the same images, for losses that learn from both.

        Returns:
            The loss and its terms before the step, without gradients.

        Raises:
            UsageError: a batch of one image, which this network can't be trained on.
            LogitbankError: the device is out of memory.
        """
        try:
            terms = self._terms(weak, strong)
            self._descend(terms["loss"])
        except torch.OutOfMemoryError as error:
            raise LogitbankError(
                f"{self.device} has too little memory for batches of {len(weak.batch.rows)}: lower "
                "--batch-size, with --grad-accum-steps in its place, or try --amp"
            ) from error
        return {name: value.detach() for name, value in terms.items()}

    def state(self) -> dict[str, Any]:
        """Return what the next step depends on, besides the network's own state."""
        state = {"optimiser": self._optimiser.state_dict(), "scaler": self._scaler.state_dict()}
        if self._learned is not None:
            state["learned"] = self._learned.state_dict()
        if self.average is not None:
            state["average"] = self.average.model.module.state_dict()
        return state

    def load_state(self, network: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self._module.load_state_dict(network)
        self._optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])
        if self._learned is not None:
            self._learned.load_state_dict(state["learned"])
        if self.average is not None:
            self.average.model.module.load_state_dict(state["average"])

    def _terms(self, weak: ViewBatch, strong: ViewBatch | None) -> Terms:
        views = (weak,) if strong is None else (weak, strong)
        student = ViewLogits(*(self._logits(each.batch.pixels) for each in views))
        teacher = None
        if weak.teacher_logits is not None:
            teacher = ViewLogits(weak.teacher_logits, strong and strong.teacher_logits)
        targets = weak.batch.targets
        return self._loss(student, teacher, targets, self._epoch, self._learned)

    def _descend(self, loss: torch.Tensor) -> None:
        """Add a batch's gradient; with the last batch of a step, or of the epoch, take the step.

        The epoch's last step may have fewer batches than the others: its gradient is their mean.
        """
        place = self._seen % self._accumulated
        if place == 0:
            self._optimiser.zero_grad(set_to_none=True)
        batches = min(self._accumulated, self._batches - self._seen + place)
        self._scaler.scale(loss if batches == 1 else loss / batches).backward()
        self._seen += 1
        if place + 1 == batches:
            self._scaler.step(self._optimiser)
            self._scaler.update()
            if self.average is not None:
                self.average.update(self._module)

    def _logits(self, pixels: torch.Tensor) -> torch.Tensor:
        images = normalise(pixels, self.model.normalisation)
        images = images.contiguous(memory_format=self._layout)
        try:
            with torch.autocast(self.device.type, torch.float16, enabled=self._amp):
                return self._forward(images)
        except ValueError as error:
            if len(pixels) > 1 or "more than 1 value per channel" not in str(error):
                raise
            raise UsageError(
                f"an epoch's last batch is a single image, on which {self.model.spec} can't be "
                "trained (batch norm): choose another --batch-size"
            ) from error
