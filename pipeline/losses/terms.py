"""The loss of a batch by a method, and the terms that it is made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from logitbank.pipeline.losses.cross_entropy import CEWeights, are_mixed, cross_entropy_loss
from logitbank.pipeline.losses.ctkd import CTKDSettings, LearnedTemperature
from logitbank.pipeline.losses.dkd import (
    DKDSettings,
    non_target_class_loss,
    target_class_loss,
    warmup_share,
)
from logitbank.pipeline.losses.kd import KDWeights, kd_loss
from logitbank.pipeline.losses.methods import Method
from logitbank.pipeline.losses.mlkd import MLKDSettings, mlkd_losses
from logitbank.pipeline.losses.sld import (
    SLDSettings,
    has_second_teacher,
    second_teacher_loss,
    teacher_loss,
)
from logitbank.pipeline.losses.standardise import standardise
from logitbank.stores.errors import UsageError

Terms = dict[str, torch.Tensor]


@dataclass(frozen=True)
class ViewLogits:
    """A network's (B, C) logits of the weak view of each image and, where asked for, the strong."""

    weak: torch.Tensor
    strong: torch.Tensor | None = None


def loss_terms(
    method: Method,
    student: ViewLogits,
    teacher: ViewLogits | None,
    targets: torch.Tensor,
    epoch: int,
    learned: LearnedTemperature | None = None,
) -> Terms:
    """Compute a batch's loss and the terms it is made of.

    Args:
        method: what to compute, and with which settings.
        student: logits, floating; half precision is computed in float32.
        teacher: logits of the same shapes; no gradient flows into them. None for `ce`.
        targets: (B,) int64; or (B, C) floating, the class weights of mixed images.
        epoch: counted from 0; the published epoch is one more.
        learned: what `method.learned_temperature()` built, on the logits' device.

    Returns:
        Scalars by name, the same names in all batches of an epoch: `loss`, the weighted sum to
        descend on; and, before their weights, `loss_ce` and, of all that distil, `loss_kd`. Besides
        these DKD gives `loss_tckd` and `loss_nckd`, which make up its `loss_kd`; CTKD its
        `temperature`; MLKD `loss_cc` and `loss_bc`; SLD, from γ on, `loss_self`.

    Raises:
        UsageError: logits that the method needs are not given, or mixed targets where it needs one
            label for each image.
        ValueError: student and teacher differ in shape, or CTKD's module is missing.
    """
    if are_mixed(targets):
        method.require_one_label()
    _check_logits(method, student, teacher)
    settings = method.settings
    if isinstance(settings, CEWeights) or teacher is None:
        ce = cross_entropy_loss(student.weak, targets)
        return {"loss": settings.ce * ce, "loss_ce": ce}
    if isinstance(settings, MLKDSettings):
        return _mlkd(settings, student, teacher, targets, method.standardised)
    if isinstance(settings, SLDSettings):
        pairs = _pairs(student, teacher)[: method.views]
        return _sld(settings, pairs, targets, epoch)
    ce = cross_entropy_loss(student.weak, targets)
    pair = student.weak, teacher.weak
    if method.standardised:
        pair = standardise(student.weak), standardise(teacher.weak)
    if isinstance(settings, DKDSettings):
        return _dkd(settings, ce, pair, targets, epoch)
    if isinstance(settings, CTKDSettings):
        return _ctkd(settings, ce, pair, epoch, learned)
    return _kd(settings, ce, pair)


Pair = tuple[torch.Tensor, torch.Tensor]


def _kd(weights: KDWeights, ce: torch.Tensor, pair: Pair) -> Terms:
    distilled = kd_loss(*pair, weights.temperature)
    return {
        "loss": weights.ce * ce + weights.kd * distilled,
        "loss_ce": ce,
        "loss_kd": distilled,
    }


def _dkd(
    settings: DKDSettings, ce: torch.Tensor, pair: Pair, targets: torch.Tensor, epoch: int
) -> Terms:
    target = target_class_loss(*pair, targets, settings.temperature)
    others = non_target_class_loss(*pair, targets, settings.temperature)
    distilled = settings.alpha * target + settings.beta * others
    return {
        "loss": settings.ce * ce + warmup_share(epoch, settings.warmup) * distilled,
        "loss_ce": ce,
        "loss_kd": distilled,
        "loss_tckd": target,
        "loss_nckd": others,
    }


def _ctkd(
    settings: CTKDSettings,
    ce: torch.Tensor,
    pair: Pair,
    epoch: int,
    learned: LearnedTemperature | None,
) -> Terms:
    if learned is None:
        raise ValueError("ctkd needs the module that Method.learned_temperature builds")
    temperature = learned(epoch)
    distilled = kd_loss(*pair, temperature)
    return {
        "loss": settings.ce * ce + settings.kd * distilled,
        "loss_ce": ce,
        "loss_kd": distilled,
        "temperature": temperature,
    }


def _mlkd(
    settings: MLKDSettings,
    student: ViewLogits,
    teacher: ViewLogits,
    targets: torch.Tensor,
    standardised: bool,
) -> Terms:
    (student_weak, teacher_weak), (student_strong, teacher_strong) = _pairs(student, teacher)
    ce = cross_entropy_loss(student_weak, targets) + cross_entropy_loss(student_strong, targets)
    levels = mlkd_losses(
        student_weak,
        student_strong,
        teacher_weak,
        teacher_strong,
        settings.temperature,
        standardised=standardised,
    )
    distilled = levels.kl + levels.class_correlation + levels.batch_correlation
    return {
        "loss": settings.ce * ce + settings.kd * distilled,
        "loss_ce": ce,
        "loss_kd": levels.kl,
        "loss_cc": levels.class_correlation,
        "loss_bc": levels.batch_correlation,
    }


def _sld(settings: SLDSettings, pairs: list[Pair], targets: torch.Tensor, epoch: int) -> Terms:
    ce = torch.stack([cross_entropy_loss(own, targets) for own, _ in pairs]).sum()
    distilled = torch.stack([teacher_loss(*pair, targets, settings) for pair in pairs]).sum()
    terms = {"loss_ce": ce, "loss_kd": distilled}
    if has_second_teacher(epoch, settings.gamma):
        to_itself = [second_teacher_loss(own, targets, settings) for own, _ in pairs]
        terms["loss_self"] = torch.stack(to_itself).sum()
        distilled = distilled + terms["loss_self"]
    return {"loss": settings.ce * ce + settings.kd * distilled, **terms}


def _pairs(student: ViewLogits, teacher: ViewLogits) -> list[Pair]:
    """Give the student's and the teacher's logits of each view that there is."""
    pairs = [(student.weak, teacher.weak)]
    if student.strong is not None and teacher.strong is not None:
        pairs.append((student.strong, teacher.strong))
    return pairs


def _check_logits(method: Method, student: ViewLogits, teacher: ViewLogits | None) -> None:
    if not method.needs_teacher:
        return
    if teacher is None:
        raise UsageError(f"--loss {method.name} needs --soft-labels STORE or --teacher SPEC")
    if method.views == 2 and (student.strong is None or teacher.strong is None):
        raise UsageError(
            f"--loss {method.name} learns from a weak and a strong view of each image: give "
            "--soft-labels WEAK STRONG"
        )
    for own, other in _pairs(student, teacher):
        if own.shape != other.shape:
            raise ValueError(
                f"the student's logits are {tuple(own.shape)}, the teacher's {tuple(other.shape)}"
            )
