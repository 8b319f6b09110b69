"""Losses of a batch: one class each, whose fields are its settings, and the functions they call.

`published_loss` builds one with its published settings; calling it computes a batch's terms:

>>> import torch
>>> loss = published_loss("ctkd", DatasetKind.CIFAR)
>>> loss
CTKD(ce=0.1, kd=0.9, loops=10, start=1.0, span=20.0)
>>> loss.views, loss.needs_teacher
(1, True)
>>> learned = loss.learned_module()  # its parameters go to the student's optimiser
>>> student, teacher = torch.zeros(2, 3, requires_grad=True), torch.eye(2, 3)
>>> labels, epoch = torch.tensor([0, 1]), 0
>>> terms = loss(ViewLogits(student), ViewLogits(teacher), labels, epoch, learned)
>>> sorted(terms)
['loss', 'loss_ce', 'loss_kd', 'temperature']
>>> terms["loss"].backward()
"""

from logitbank.pipeline.losses.cross_entropy import CrossEntropy, cross_entropy_loss
from logitbank.pipeline.losses.ctkd import CTKD, LearnedTemperature
from logitbank.pipeline.losses.dkd import DKD
from logitbank.pipeline.losses.kd import KD, kd_loss
from logitbank.pipeline.losses.logits import ViewLogits
from logitbank.pipeline.losses.loss import Loss, LossInputs, Terms
from logitbank.pipeline.losses.mixed import mixed_targets
from logitbank.pipeline.losses.mlkd import MLKD
from logitbank.pipeline.losses.published import DatasetKind, Published
from logitbank.pipeline.losses.registry import LOSSES, loss_class, published_loss
from logitbank.pipeline.losses.sld import SLD

__all__ = [
    "CTKD",
    "DKD",
    "KD",
    "LOSSES",
    "MLKD",
    "SLD",
    "CrossEntropy",
    "DatasetKind",
    "LearnedTemperature",
    "Loss",
    "LossInputs",
    "Published",
    "Terms",
    "ViewLogits",
    "cross_entropy_loss",
    "kd_loss",
    "loss_class",
    "mixed_targets",
    "published_loss",
]
