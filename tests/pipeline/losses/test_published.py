"""Losses by name: what each needs, and the settings it was published with."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitbank.pipeline.losses import (
    KD,
    LOSSES,
    DatasetKind,
    LearnedTemperature,
    loss_class,
    published_loss,
)
from logitbank.pipeline.losses.published import network_name
from logitbank.stores.errors import UsageError

CIFAR, IMAGENET = DatasetKind.CIFAR, DatasetKind.IMAGENET
SIX = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


def settings(name, kind=CIFAR, **given_names):
    return dataclasses.asdict(published_loss(name, kind, **given_names))


PUBLISHED = {
    ("ce", CIFAR): {"ce": 1},
    ("ce", IMAGENET): {"ce": 1},
    ("kd", CIFAR): {"ce": 0.1, "kd": 0.9, "temperature": 4},
    ("kd", IMAGENET): {"ce": 0.5, "kd": 0.5, "temperature": 1},
    ("lskd", CIFAR): {"ce": 0.1, "kd": 9, "temperature": 2},
    ("lskd", IMAGENET): {"ce": 1, "kd": 9, "temperature": 2},
    ("dkd", CIFAR): {"ce": 1, "alpha": 1, "beta": 8, "temperature": 4, "warmup": 20},
    ("dkd", IMAGENET): {"ce": 1, "alpha": 1, "beta": 0.5, "temperature": 1, "warmup": 1},
    ("dkd+ls", CIFAR): {"ce": 1, "alpha": 9, "beta": 72, "temperature": 2, "warmup": 20},
    ("dkd+ls", IMAGENET): {"ce": 1, "alpha": 9, "beta": 4.5, "temperature": 2, "warmup": 1},
    ("ctkd", CIFAR): {"ce": 0.1, "kd": 0.9, "loops": 10, "start": 1, "span": 20},
    ("ctkd", IMAGENET): {"ce": 1, "kd": 1, "loops": 5, "start": 1, "span": 20},
    ("ctkd+ls", CIFAR): {"ce": 0.1, "kd": 9, "loops": 10, "start": 1, "span": 20},
    ("ctkd+ls", IMAGENET): {"ce": 1, "kd": 9, "loops": 5, "start": 1, "span": 20},
    ("mlkd", CIFAR): {"ce": 0.1, "kd": 0.9, "temperature": 4},
    ("mlkd", IMAGENET): {"ce": 0.5, "kd": 0.5, "temperature": 1},
    ("mlkd+ls", CIFAR): {"ce": 0.1, "kd": 9, "temperature": 2},
    ("mlkd+ls", IMAGENET): {"ce": 0.5, "kd": 9, "temperature": 2},
}
SLD = {"temperatures": SIX, "stop_gradient": False, "swap_teacher": True}
PUBLISHED[("sld", CIFAR)] = {**SLD, "ce": 0.1, "kd": 0.9, "gamma": 150}
PUBLISHED[("sld", IMAGENET)] = {**SLD, "ce": 0.5, "kd": 0.5, "gamma": 30}
SLD_KD = {**SLD, "ce": 0.1, "kd": 4, "temperatures": (4.0,)}
PUBLISHED[("sld-kd", CIFAR)] = {**SLD_KD, "gamma": 150}
PUBLISHED[("sld-kd", IMAGENET)] = {**SLD_KD, "ce": 0.5, "temperatures": (1.0,), "gamma": 30}


@pytest.mark.parametrize(("name", "kind"), PUBLISHED)
def test_published_settings(name, kind):
    assert settings(name, kind) == PUBLISHED[name, kind]


def test_every_loss_has_settings_for_both_kinds_of_dataset():
    assert set(PUBLISHED) == {(name, kind) for name in LOSSES for kind in DatasetKind}


def test_kd_on_standardised_logits_has_two_names():
    assert published_loss("kd+ls", CIFAR) == published_loss("lskd", CIFAR)
    assert published_loss("kd+ls", CIFAR).name == "lskd"


@pytest.mark.parametrize(
    ("teacher", "student", "beta"),
    [
        ("resnet56", "resnet20", 2),
        ("resnet110", "resnet32", 2),
        ("vgg13", "vgg8", 6),
        ("vgg13", "MobileNetV2", 6),
        ("wrn_40_2", "wrn_16_2", 6),
        ("wrn_40_2", "wrn_40_1", 6),
        ("resnet32x4", "resnet8x4", 8),
        ("ResNet50", "MobileNetV2", 8),
        ("resnet110", "resnet20", 8),
        ("cifar:vgg13@teachers/vgg13@best.pth", "cifar:vgg8", 6),
    ],
)
def test_beta_of_dkd_by_pair_on_cifar(teacher, student, beta):
    assert settings("dkd", teacher=teacher, student=student)["beta"] == beta
    assert settings("dkd+ls", teacher=teacher, student=student)["beta"] == 9 * beta
    assert settings("dkd", IMAGENET, teacher=teacher, student="resnet18")["beta"] == 0.5


@pytest.mark.parametrize(
    ("student", "beta", "ce"),
    [
        ("torchvision:resnet18", 0.5, 0.5),
        ("MobileNetV1", 2, 1),
        ("imagenet:mobilenet_v1@a.pt", 2, 1),
        ("torchvision:mobilenet_v2", 2, 1),
    ],
)
def test_settings_by_student_on_imagenet(student, beta, ce):
    assert settings("dkd", IMAGENET, student=student)["beta"] == beta
    assert settings("dkd+ls", IMAGENET, student=student)["beta"] == 9 * beta
    found = settings("sld", IMAGENET, student=student)
    assert (found["ce"], found["kd"]) == (ce, 0.5)
    assert settings("sld", CIFAR, student=student)["ce"] == 0.1
    assert settings("sld-kd", IMAGENET, student=student)["ce"] == 0.5


def test_gamma_of_sld_is_the_first_drop_of_the_learning_rate():
    assert settings("sld", first_drop=7)["gamma"] == 7
    assert settings("sld-kd", first_drop=0)["gamma"] == 0
    assert "gamma" not in settings("kd", first_drop=7)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("cifar:wrn_40_2", "wrn402"),
        ("cifar:ShuffleV2@a:b@c.pt", "shufflev2"),
        ("torchvision:resnet34@DEFAULT", "resnet34"),
        ("resnet8x4", "resnet8x4"),
        ("", ""),
    ],
)
def test_the_network_of_a_spec(spec, name):
    assert network_name(spec) == name


@pytest.mark.parametrize("kind", DatasetKind)
def test_what_each_loss_needs(kind):
    losses = {name: published_loss(name, kind) for name in LOSSES}
    assert {n for n in LOSSES if losses[n].views == 2} == {"mlkd", "mlkd+ls", "sld"}
    assert {n for n in LOSSES if not losses[n].needs_teacher} == {"ce"}
    assert {n for n in LOSSES if losses[n].standardised} == {
        "lskd", "dkd+ls", "ctkd+ls", "mlkd+ls",
    }  # fmt: skip
    assert {n for n in LOSSES if losses[n].needs_one_label} == {
        "dkd", "dkd+ls", "sld", "sld-kd",
    }  # fmt: skip
    learned = {n for n in LOSSES if losses[n].learned_module() is not None}
    assert learned == {"ctkd", "ctkd+ls"}
    module = losses["ctkd"].learned_module()
    assert isinstance(module, LearnedTemperature)
    assert module.loss == losses["ctkd"]


@pytest.mark.parametrize("name", ["dkd-ls", "slb", "KD"])
def test_an_unknown_name_is_refused_with_the_nearest(name):
    nearest = {"dkd-ls": "dkd+ls", "slb": "sld", "KD": "kd"}[name]
    hint = f"did you mean '{nearest}'" if name != "KD" else "known: ce, ctkd"
    with pytest.raises(UsageError, match="unknown loss") as caught:
        published_loss(name, CIFAR)
    assert hint in str(caught.value)
    with pytest.raises(UsageError, match="unknown loss"):
        loss_class(name)


def test_settings_can_be_changed_by_name():
    loss = published_loss("kd", CIFAR)
    assert loss.with_settings(ce=0.5, kd="0.5", temperature="1") == KD(0.5, 0.5, 1.0)
    sld = published_loss("sld", CIFAR).with_settings(temperatures=[1, 2], stop_gradient="true")
    assert sld.temperatures == (1.0, 2.0)
    assert sld.stop_gradient is True
    assert loss.with_settings() == loss


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("dkd", {"betta": 2}, "unknown setting of dkd 'betta': did you mean 'beta'"),
        ("dkd", {"warmup": 1.5}, "dkd: warmup must be a whole number, not 1.5"),
        ("kd", {"temperature": "warm"}, "kd: temperature must be a number, not 'warm'"),
        ("kd", {"temperature": 0}, "temperature must be finite and above 0, not 0"),
        ("ce", {"ce": -1}, "ce must be finite and 0 or more, not -1"),
        ("sld", {"gamma": -1}, "gamma must be 0 or more, not -1"),
        ("mlkd", {"kd": math.inf}, "kd must be finite and 0 or more, not inf"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(name, changes, message):
    with pytest.raises(UsageError, match=message):
        published_loss(name, CIFAR).with_settings(**changes)


@given(st.sampled_from(sorted(LOSSES)), st.sampled_from(DatasetKind))
def test_settings_survive_a_round_trip_through_plain_data(name, kind):
    loss = published_loss(name, kind)
    plain = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(loss).items()
    }
    assert published_loss(name, CIFAR).with_settings(**plain) == loss


@pytest.mark.parametrize(
    ("correction", "swaps"), [(None, True), ("swap", False), ("sort", False), ("mine", False)]
)
@pytest.mark.parametrize("name", LOSSES)
def test_sld_alone_asks_whether_logits_are_corrected_already(name, correction, swaps):
    loss = published_loss(name, CIFAR)
    found = loss.on_logits(correction)
    if name in ("sld", "sld-kd"):
        assert found == dataclasses.replace(loss, swap_teacher=swaps)
        assert found.on_logits(None) == loss
    else:
        assert found == loss


def test_schedules_by_epoch_shrink_with_the_run():
    dkd, ctkd = published_loss("dkd", CIFAR), published_loss("ctkd+ls", CIFAR)
    assert dkd.scaled(240, 240) == dkd
    assert dkd.scaled(24, 240).warmup == 2
    assert dkd.scaled(25, 240).warmup == 3
    assert dkd.scaled(1, 240).warmup == 1
    assert ctkd.scaled(60, 240).loops == 3
    for name in ("ce", "kd", "mlkd", "sld"):
        assert published_loss(name, CIFAR).scaled(3, 240) == published_loss(name, CIFAR)
