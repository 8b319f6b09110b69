"""Losses of a batch: pure functions of logits and targets, and the methods made of them by name.

`published_method` gives a method as published, `loss_terms` what a batch costs by it:

>>> import torch
>>> method = published_method("ctkd", DatasetKind.CIFAR)
>>> method.views, method.needs_teacher
(1, True)
>>> learned = method.learned_temperature()  # its parameters go to the student's optimiser
>>> student, teacher = torch.zeros(2, 3, requires_grad=True), torch.eye(2, 3)
>>> labels, epoch = torch.tensor([0, 1]), 0
>>> terms = loss_terms(method, ViewLogits(student), ViewLogits(teacher), labels, epoch, learned)
>>> sorted(terms)
['loss', 'loss_ce', 'loss_kd', 'temperature']
>>> terms["loss"].backward()
"""

from logitbank.pipeline.losses.cross_entropy import cross_entropy_loss, mixed_targets
from logitbank.pipeline.losses.ctkd import LearnedTemperature
from logitbank.pipeline.losses.kd import CIFAR_KD, IMAGENET_KD, KDWeights, kd_loss
from logitbank.pipeline.losses.methods import METHODS, DatasetKind, Method, published_method
from logitbank.pipeline.losses.terms import Terms, ViewLogits, loss_terms

__all__ = [
    "CIFAR_KD",
    "IMAGENET_KD",
    "METHODS",
    "DatasetKind",
    "KDWeights",
    "LearnedTemperature",
    "Method",
    "Terms",
    "ViewLogits",
    "cross_entropy_loss",
    "kd_loss",
    "loss_terms",
    "mixed_targets",
    "published_method",
]
