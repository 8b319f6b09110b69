"""Losses of a batch: pure functions of logits and targets."""

from logitbank.pipeline.losses.cross_entropy import cross_entropy_loss
from logitbank.pipeline.losses.kd import CIFAR_KD, IMAGENET_KD, KDWeights, kd_loss

__all__ = ["CIFAR_KD", "IMAGENET_KD", "KDWeights", "cross_entropy_loss", "kd_loss"]
