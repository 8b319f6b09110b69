"""The loss of a batch by each loss, against plain computations in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from logitbank.pipeline.losses import (
    LOSSES,
    DatasetKind,
    ViewLogits,
    cross_entropy_loss,
    mixed_targets,
    published_loss,
)
from logitbank.stores.errors import UsageError
from tests.pipeline.losses.loss_examples import EXTREMES, extreme, random_batch
from tests.reference import losses as reference

CIFAR, IMAGENET = DatasetKind.CIFAR, DatasetKind.IMAGENET
KINDS = pytest.mark.parametrize("kind", DatasetKind)
SIX = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


def batch(**options):
    weak, strong, teacher_weak, teacher_strong, labels = random_batch(4, **options)
    return ViewLogits(weak, strong), ViewLogits(teacher_weak, teacher_strong), labels


def computed(criterion, epoch=0, logits=None):
    student, teacher, labels = logits or batch()
    learned = criterion.learned_module()
    terms = criterion(student, teacher, labels, epoch, learned)
    assert all(value.shape == () for value in terms.values())
    return {name: value.item() for name, value in terms.items()}


def arrays(standardised=False):
    student, teacher, labels = batch()
    rows = [
        logits.numpy() for logits in (student.weak, student.strong, teacher.weak, teacher.strong)
    ]
    if standardised:
        rows = [np.array([reference.standardise(row) for row in each]) for each in rows]
    return *rows, labels.numpy()


@KINDS
def test_ce_is_the_cross_entropy_of_the_weak_view(kind):
    weak, _, _, _, labels = arrays()
    ce = reference.cross_entropy(weak, labels)
    assert computed(published_loss("ce", kind)) == pytest.approx({"loss": ce, "loss_ce": ce})


@KINDS
@pytest.mark.parametrize("name", ["kd", "lskd"])
def test_kd(kind, name):
    weak, _, teacher, _, labels = arrays()
    ce = reference.cross_entropy(weak, labels)
    weak, _, teacher, _, _ = arrays(standardised=name == "lskd")
    weights = {
        ("kd", CIFAR): (0.1, 0.9, 4.0),
        ("kd", IMAGENET): (0.5, 0.5, 1.0),
        ("lskd", CIFAR): (0.1, 9.0, 2.0),
        ("lskd", IMAGENET): (1.0, 9.0, 2.0),
    }
    w_ce, w_kd, temperature = weights[name, kind]
    kd = reference.kd(weak, teacher, temperature)
    expected = {"loss": w_ce * ce + w_kd * kd, "loss_ce": ce, "loss_kd": kd}
    assert computed(published_loss(name, kind)) == pytest.approx(expected)


@pytest.mark.parametrize("epoch", [0, 9, 18, 19, 20, 239])
@pytest.mark.parametrize("name", ["dkd", "dkd+ls"])
def test_dkd_and_its_warmup_of_20_published_epochs(name, epoch):
    weak, _, teacher, _, labels = arrays()
    ce = reference.cross_entropy(weak, labels)
    weak, _, teacher, _, _ = arrays(standardised=name == "dkd+ls")
    alpha, beta, temperature = (1, 8, 4.0) if name == "dkd" else (9, 72, 2.0)
    target = reference.tckd(weak, teacher, labels, temperature)
    others = reference.nckd(weak, teacher, labels, temperature)
    kd = alpha * target + beta * others
    published = epoch + 1
    expected = {
        "loss": ce + min(published / 20, 1) * kd,
        "loss_ce": ce,
        "loss_kd": kd,
        "loss_tckd": target,
        "loss_nckd": others,
    }
    assert computed(published_loss(name, CIFAR), epoch) == pytest.approx(expected)


@KINDS
@pytest.mark.parametrize("name", ["ctkd", "ctkd+ls"])
def test_ctkd(kind, name):
    weak, _, teacher, _, labels = arrays()
    ce = reference.cross_entropy(weak, labels)
    weak, _, teacher, _, _ = arrays(standardised=name == "ctkd+ls")
    temperature = reference.ctkd_temperature(1.0)
    kd = reference.kd(weak, teacher, temperature)
    w_kd = 9.0 if name == "ctkd+ls" else 0.9 if kind is CIFAR else 1.0
    expected = {
        "loss": (0.1 if kind is CIFAR else 1.0) * ce + w_kd * kd,
        "loss_ce": ce,
        "loss_kd": kd,
        "temperature": temperature,
    }
    assert computed(published_loss(name, kind)) == pytest.approx(expected)


@KINDS
@pytest.mark.parametrize("name", ["mlkd", "mlkd+ls"])
def test_mlkd(kind, name):
    weak, strong, teacher_weak, teacher_strong, labels = arrays()
    ce = reference.cross_entropy(weak, labels) + reference.cross_entropy(strong, labels)
    base = 2.0 if name == "mlkd+ls" else 4.0 if kind is CIFAR else 1.0
    kl, cc, bc = reference.mlkd(
        (weak, strong), (teacher_weak, teacher_strong), base, standardised=name == "mlkd+ls"
    )
    w_ce = 0.1 if kind is CIFAR else 0.5
    w_kd = 9.0 if name == "mlkd+ls" else 0.9 if kind is CIFAR else 0.5
    expected = {
        "loss": w_ce * ce + w_kd * (kl + cc + bc),
        "loss_ce": ce,
        "loss_kd": kl,
        "loss_cc": cc,
        "loss_bc": bc,
    }
    assert computed(published_loss(name, kind)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("kind", "epoch", "second"),
    [(CIFAR, 0, False), (CIFAR, 149, False), (CIFAR, 150, True), (CIFAR, 239, True),
     (IMAGENET, 29, False), (IMAGENET, 30, True)],
)  # fmt: skip
def test_sld_and_its_second_teacher_from_the_first_drop_on(kind, epoch, second):
    weak, strong, teacher_weak, teacher_strong, labels = arrays()
    ce = reference.cross_entropy(weak, labels) + reference.cross_entropy(strong, labels)
    kd = reference.sld_teacher(weak, teacher_weak, labels, SIX)
    kd += reference.sld_teacher(strong, teacher_strong, labels, SIX)
    own = reference.sld_second_teacher(weak, labels, SIX)
    own += reference.sld_second_teacher(strong, labels, SIX)
    w_ce, w_kd = (0.1, 0.9) if kind is CIFAR else (0.5, 0.5)
    expected = {"loss": w_ce * ce + w_kd * (kd + own * second), "loss_ce": ce, "loss_kd": kd}
    if second:
        expected["loss_self"] = own
    assert computed(published_loss("sld", kind), epoch) == pytest.approx(expected)


@pytest.mark.parametrize("epoch", [149, 150])
def test_the_kd_only_variant_of_sld_sees_the_weak_view_alone(epoch):
    weak, _, teacher, _, labels = arrays()
    ce = reference.cross_entropy(weak, labels)
    kd = reference.sld_teacher(weak, teacher, labels, (4.0,))
    own = reference.sld_second_teacher(weak, labels, (4.0,)) if epoch == 150 else 0
    found = computed(published_loss("sld-kd", CIFAR), epoch)
    assert found["loss"] == pytest.approx(0.1 * ce + 4 * (kd + own))
    student, teacher, labels = batch()
    one_view = ViewLogits(student.weak), ViewLogits(teacher.weak), labels
    assert computed(published_loss("sld-kd", CIFAR), epoch, one_view) == found


def test_gamma_follows_another_schedule():
    criterion = published_loss("sld", CIFAR, first_drop=7)
    assert ["loss_self" in computed(criterion, epoch) for epoch in (5, 6, 7, 8)] == [0, 0, 1, 1]


def swapped_rows(logits, labels):
    rows = zip(logits.numpy(), labels, strict=True)
    return torch.tensor([reference.swap(row, y) for row, y in rows], dtype=torch.float64)


def test_sld_swaps_raw_logits_once_and_takes_corrected_ones_as_they_are():
    student, teacher, labels = batch()
    swapped = ViewLogits(swapped_rows(teacher.weak, labels), swapped_rows(teacher.strong, labels))
    criterion = published_loss("sld", CIFAR)
    on_raw = computed(criterion.on_logits(None), 0, (student, teacher, labels))
    assert computed(criterion.on_logits("swap"), 0, (student, swapped, labels)) == on_raw
    unswapped = computed(criterion.on_logits("swap"), 0, (student, teacher, labels))
    assert unswapped["loss_kd"] != pytest.approx(on_raw["loss_kd"])


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_passes_gradcheck(name):
    student, teacher, labels = batch()
    criterion = published_loss(name, CIFAR)
    learned = criterion.learned_module()

    def loss(weak, strong):
        return criterion(ViewLogits(weak, strong), teacher, labels, 200, learned)["loss"]

    weak, strong = student.weak.requires_grad_(), student.strong.requires_grad_()
    assert torch.autograd.gradcheck(loss, (weak, strong))


@pytest.mark.parametrize("epoch", [0, 200])
@pytest.mark.parametrize("example", EXTREMES)
@pytest.mark.parametrize("name", LOSSES)
def test_terms_and_gradients_of_extreme_logits_are_finite(name, example, epoch):
    student, teacher, labels = extreme(example, torch.float32)
    criterion = published_loss(name, CIFAR)
    terms = criterion(
        ViewLogits(student, student.flip(0)),
        ViewLogits(teacher, teacher.flip(0)),
        labels,
        epoch,
        criterion.learned_module(),
    )
    terms["loss"].backward()
    assert all(torch.isfinite(value) for value in terms.values())
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_computed_in_float32(name, half):
    student, teacher, labels = batch()
    halves = [z.to(half) for z in (student.weak, student.strong, teacher.weak, teacher.strong)]
    wide = [logits.float() for logits in halves]
    criterion = published_loss(name, CIFAR)
    in_half, in_float = (
        computed(criterion, 200, (ViewLogits(*rows[:2]), ViewLogits(*rows[2:]), labels))
        for rows in (halves, wide)
    )
    assert in_half == in_float


@pytest.mark.parametrize("name", LOSSES)
def test_the_same_terms_come_for_every_batch_of_an_epoch(name):
    criterion = published_loss(name, CIFAR)
    for epoch in (0, 200):
        names = [list(computed(criterion, epoch, batch(seed=seed))) for seed in range(3)]
        assert names[0] == names[1] == names[2]
        assert names[0][:2] == ["loss", "loss_ce"]
        assert (names[0][2:3] == ["loss_kd"]) == criterion.needs_teacher


def test_what_is_lacking_is_named():
    student, teacher, labels = batch()
    weak = ViewLogits(student.weak)
    with pytest.raises(UsageError, match="--loss kd needs --soft-labels STORE or --teacher SPEC"):
        published_loss("kd", CIFAR)(weak, None, labels, 0)
    for pair in ((weak, teacher), (student, ViewLogits(teacher.weak))):
        with pytest.raises(UsageError, match="--loss sld learns from a weak and a strong view"):
            published_loss("sld", CIFAR)(*pair, labels, 0)
    one = ViewLogits(teacher.weak[:1])
    with pytest.raises(ValueError, match="the student's logits are .4, 6., the teacher's .1, 6."):
        published_loss("kd", CIFAR)(weak, one, labels, 0)
    with pytest.raises(ValueError, match=r"ctkd needs the module"):
        published_loss("ctkd", CIFAR)(weak, teacher, labels, 0)


def test_mixed_images_have_the_cross_entropy_of_both_labels():
    student, teacher, labels = batch()
    partners, shares = labels.flip(0), torch.tensor([1.0, 0.0, 0.25, 0.5])
    mixed = mixed_targets(labels, partners, shares, 6)
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(4))
    rows = [
        share * reference.cross_entropy(row[None], [own])
        + (1 - share) * reference.cross_entropy(row[None], [other])
        for row, own, other, share in zip(
            student.weak.numpy(), labels, partners, shares.tolist(), strict=True
        )
    ]
    assert cross_entropy_loss(student.weak, mixed).item() == pytest.approx(sum(rows) / 4, rel=1e-6)
    terms = published_loss("kd", CIFAR)(student, teacher, mixed, 0)
    assert terms["loss_ce"].item() == pytest.approx(sum(rows) / 4, rel=1e-6)
    half = cross_entropy_loss(student.weak.half(), mixed)
    assert half == cross_entropy_loss(student.weak.half().float(), mixed)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_that_need_one_label_refuse_mixed_images(name):
    student, teacher, labels = batch()
    mixed = mixed_targets(labels, labels.flip(0), torch.full((4,), 0.5), 6)
    criterion = published_loss(name, CIFAR)
    learned = criterion.learned_module()
    if criterion.needs_one_label:
        with pytest.raises(UsageError, match=r"mixed images have two labels"):
            criterion(student, teacher, mixed, 0, learned)
    else:
        assert torch.isfinite(criterion(student, teacher, mixed, 0, learned)["loss"])
