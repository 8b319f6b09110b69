"""A run's configuration: published defaults, what is refused, and how two of them differ."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitbank.pipeline.devices import usable_device
from logitbank.pipeline.student.config import (
    TrainConfig,
    learning_rate,
    scaled_milestones,
)
from logitbank.stores.errors import LogitbankError, UsageError
from tests.pipeline.student_examples import small_config


def resolved(*, in_memory: bool = True, has_soft_labels: bool = True, **changes) -> TrainConfig:
    config = small_config(**changes)
    return config.resolved(in_memory=in_memory, has_soft_labels=has_soft_labels)


def test_published_defaults_of_cifar():
    config = resolved(epochs=240)
    assert (config.loss, config.ce_weight, config.kd_weight, config.temperature) == (
        "kd",
        0.1,
        0.9,
        4.0,
    )
    assert config.milestones == (150, 180, 210)
    plain = TrainConfig(student="cifar:resnet8")
    assert (plain.epochs, plain.batch_size, plain.lr) == (240, 64, 0.05)
    assert (plain.momentum, plain.weight_decay) == (0.9, 5e-4)


def test_published_defaults_of_imagenet():
    config = resolved(in_memory=False, epochs=100)
    assert (config.ce_weight, config.kd_weight, config.temperature) == (0.5, 0.5, 1.0)
    assert config.milestones == (30, 60, 90)


def test_labels_alone_are_learned_by_cross_entropy():
    config = resolved(has_soft_labels=False)
    assert (config.loss, config.ce_weight, config.kd_weight, config.temperature) == (
        "ce",
        1.0,
        None,
        None,
    )


def test_what_is_given_wins():
    config = resolved(temperature=2.0, kd_weight=9.0, milestones=(1,))
    assert (config.temperature, config.ce_weight, config.kd_weight) == (2.0, 0.1, 9.0)
    assert config.milestones == (1,)


def test_a_zero_weight_is_a_weight():
    assert resolved(ce_weight=0.0).ce_weight == 0.0


def test_distilling_needs_something_to_distil():
    with pytest.raises(UsageError, match="--loss kd needs --soft-labels STORE or --teacher SPEC"):
        resolved(has_soft_labels=False, loss="kd")


def test_resolving_twice_changes_nothing():
    config = resolved()
    assert config.resolved(in_memory=True, has_soft_labels=True) == config


def test_the_rate_drops_after_the_published_epochs():
    """Published epochs count from 1: 150 is the last at the full rate, index 149."""
    config = resolved(epochs=240, lr=0.05)
    rates = [learning_rate(config, epoch) for epoch in range(240)]
    assert rates[:150] == [0.05] * 150
    assert rates[150:180] == [pytest.approx(0.005)] * 30
    assert rates[180:210] == [pytest.approx(0.0005)] * 30
    assert rates[210:] == [pytest.approx(0.00005)] * 30


@given(st.integers(1, 500))
def test_scaled_drops_stay_in_order_and_never_come_early(epochs):
    found = scaled_milestones((150, 180, 210, 240), epochs)
    assert list(found) == sorted(found)
    for milestone, published in zip(found, (150, 180, 210), strict=True):
        assert published / 240 <= milestone / epochs < published / 240 + 1 / epochs


@given(
    st.builds(
        TrainConfig,
        student=st.text(min_size=1),
        soft_labels=st.lists(st.text(), max_size=2).map(tuple),
        teacher=st.none() | st.text(),
        temperature=st.none() | st.floats(0.1, 20),
        milestones=st.none() | st.lists(st.integers(0, 9), max_size=3).map(sorted).map(tuple),
        weight_decay=st.floats(0, 1),
        seed=st.integers(0, 2**64 - 1),
        limit=st.none() | st.integers(1, 10**9),
        amp=st.booleans(),
    )
)
def test_yaml_gives_back_the_same_configuration(config):
    assert TrainConfig.from_yaml(config.to_yaml(), "config.yaml") == config


def test_differences_name_each_field_and_both_values():
    one = small_config(lr=0.1, teacher="cifar:resnet8@a.pt")
    other = dataclasses.replace(one, lr=0.2, teacher=None)
    assert one.differences(other) == [
        "teacher is 'cifar:resnet8@a.pt' there, None here",
        "lr is 0.1 there, 0.2 here",
    ]


def test_what_changes_no_weight_makes_no_difference():
    assert small_config(workers=2).differences(small_config(workers=5, verify_pixels="off")) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be 1 or more, not 0"),
        ({"batch_size": -1}, "batch_size must be 1 or more, not -1"),
        ({"limit": 0}, "limit must be 1 or more"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"temperature": -4.0}, "temperature must be above 0"),
        ({"momentum": 1.0}, "momentum must be from 0 to below 1"),
        ({"weight_decay": -1e-4}, "weight_decay must be 0 or more"),
        ({"seed": 2**64}, r"seed must be below 2\*\*64"),
        ({"milestones": (3, 2)}, "milestones are epochs from 0 in order"),
        ({"loss": "kld"}, "unknown loss 'kld': did you mean 'kd'"),
        ({"verify_pixels": "some"}, "unknown way to verify pixels 'some'"),
    ],
)
def test_a_value_that_cant_be_meant_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        small_config(**changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: [", "config.yaml is no YAML"),
        ("- 1", "config.yaml: "),
        ("student: cifar:resnet8\nlr: fast", "config.yaml: lr: "),
        ("student: cifar:resnet8\nlearning_rate: 1", "config.yaml: learning_rate: "),
        ("lr: 0.1", "config.yaml: student: "),
    ],
)
def test_a_damaged_configuration_is_refused_by_name(text, message):
    with pytest.raises(LogitbankError, match=message) as caught:
        TrainConfig.from_yaml(text, "config.yaml")
    assert "\n" not in str(caught.value)


def test_a_device_torch_does_not_know_is_refused():
    with pytest.raises(UsageError, match="device 'gpu': torch knows cpu, cuda"):
        usable_device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_without_cuda_the_cpu_is_used_and_mixed_precision_refused():
    assert usable_device(None) == torch.device("cpu")
    with pytest.raises(UsageError, match="torch finds 0 CUDA devices"):
        usable_device("cuda")
    with pytest.raises(UsageError, match="--amp needs a CUDA device, this run is on cpu"):
        resolved(amp=True)
