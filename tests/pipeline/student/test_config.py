"""A run's configuration: published defaults, what is refused, and how two of them differ."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitbank.pipeline.devices import usable_device
from logitbank.pipeline.losses import LOSSES
from logitbank.pipeline.student.config import TrainConfig
from logitbank.pipeline.student.resolution import loss_of, resolved
from logitbank.pipeline.student.schedule import learning_rate, scaled_milestones
from logitbank.stores.errors import LogitbankError, UsageError
from tests.pipeline.student.student_examples import small_config


def config_of(*, in_memory: bool = True, has_soft_labels: bool = True, **changes) -> TrainConfig:
    config = small_config(**changes)
    return resolved(config, in_memory=in_memory, has_soft_labels=has_soft_labels)


def test_published_defaults_of_cifar():
    config = config_of(epochs=240)
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
    config = config_of(in_memory=False, epochs=100)
    assert (config.ce_weight, config.kd_weight, config.temperature) == (0.5, 0.5, 1.0)
    assert config.milestones == (30, 60, 90)


def test_labels_alone_are_learned_by_cross_entropy():
    config = config_of(has_soft_labels=False)
    assert (config.loss, config.ce_weight, config.kd_weight, config.temperature) == (
        "ce",
        1.0,
        None,
        None,
    )


def test_what_is_given_wins():
    config = config_of(temperature=2.0, kd_weight=9.0, milestones=(1,))
    assert (config.temperature, config.ce_weight, config.kd_weight) == (2.0, 0.1, 9.0)
    assert config.milestones == (1,)


def test_a_zero_weight_is_a_weight():
    assert config_of(ce_weight=0.0).ce_weight == 0.0


@pytest.mark.parametrize(
    ("loss", "pair", "fields", "settings"),
    [
        ("lskd", ("", ""), (0.1, 9.0, 2.0), {}),
        ("kd+ls", ("", ""), (0.1, 9.0, 2.0), {}),
        ("dkd", ("", ""), (1.0, None, 4.0), {"alpha": 1.0, "beta": 8.0, "warmup": 20}),
        (
            "dkd",
            ("cifar:resnet56", "cifar:resnet20"),
            (1.0, None, 4.0),
            {"alpha": 1.0, "beta": 2.0, "warmup": 20},
        ),
        ("ctkd", ("", ""), (0.1, 0.9, None), {"loops": 10, "start": 1.0, "span": 20.0}),
        ("mlkd", ("", ""), (0.1, 0.9, 4.0), {}),
        (
            "sld",
            ("", ""),
            (0.1, 0.9, None),
            {
                "temperatures": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
                "gamma": 150,
                "stop_gradient": False,
                "swap_teacher": True,
            },
        ),
    ],
)
def test_published_defaults_of_every_method(loss, pair, fields, settings):
    teacher, student = pair
    config = small_config(loss=loss, epochs=240, student=student or "cifar:resnet8")
    config = resolved(config, in_memory=True, has_soft_labels=True, teacher=teacher)
    assert (config.ce_weight, config.kd_weight, config.temperature) == fields
    assert config.loss_settings == settings
    assert TrainConfig.from_yaml(config.to_yaml(), "config.yaml") == config


def test_published_defaults_of_methods_on_imagenet():
    config = config_of(in_memory=False, epochs=100, loss="dkd", student="torchvision:resnet18")
    assert config.loss_settings == {"alpha": 1.0, "beta": 0.5, "warmup": 1}
    config = config_of(in_memory=False, epochs=100, loss="sld")
    assert (config.ce_weight, config.kd_weight) == (0.5, 0.5)
    assert config.loss_settings["gamma"] == 30


@pytest.mark.parametrize(
    ("changes", "gamma"),
    [
        ({"epochs": 240}, 150),
        ({"epochs": 10}, 7),  # the first drop of the scaled schedule
        ({"epochs": 10, "milestones": (3, 8)}, 3),
        ({"epochs": 240, "milestones": ()}, 150),  # never a drop: the published epoch
        ({"epochs": 10, "sched": "cosine"}, 7),
        ({"epochs": 240, "loss_settings": {"gamma": "5"}}, 5),
    ],
)
def test_sld_begins_to_learn_from_itself_with_the_first_drop(changes, gamma):
    """γ counts published epochs from 1; the first epoch at the lower rate is γ, counted from 0."""
    config = config_of(loss="sld", **changes)
    assert config.loss_settings["gamma"] == gamma
    if config.milestones:
        given = "loss_settings" in changes
        assert given or learning_rate(config, gamma) < learning_rate(config, gamma - 1)


def test_schedules_of_shorter_runs_take_the_same_share():
    assert config_of(loss="dkd", epochs=24).loss_settings["warmup"] == 2
    assert config_of(loss="ctkd", epochs=24).loss_settings["loops"] == 1


def test_settings_go_by_the_losses_own_names_and_may_be_typed():
    config = config_of(loss="dkd", loss_settings={"beta": "6", "ce": "0.5", "warmup": 3})
    assert config.loss_settings == {"alpha": 1.0, "beta": 6.0, "warmup": 3}
    assert config.ce_weight == 0.5
    config = config_of(
        loss="sld", loss_settings={"temperatures": ("2", "4"), "stop_gradient": "yes"}
    )
    assert config.loss_settings["temperatures"] == (2.0, 4.0)
    assert config.loss_settings["stop_gradient"] is True


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "dkd", "loss_settings": {"betta": 6}}, "setting of dkd 'betta'.*'beta'"),
        ({"loss": "dkd", "kd_weight": 0.9}, "setting of dkd 'kd'"),
        ({"loss": "ce", "temperature": 2.0}, "setting of ce 'temperature'"),
        ({"loss": "dkd", "loss_settings": {"beta": "much"}}, "dkd: beta must be a number"),
        (
            {"temperature": 2.0, "loss_settings": {"temperature": "3"}},
            "--temperature 2 and --loss-setting temperature=3 are the same setting",
        ),
        ({"loss": "sld", "loss_settings": {"swap_teacher": "no"}}, "follows the store's manifest"),
        ({"sched": "cosine", "milestones": (1,)}, "--milestones are drops of --sched step"),
    ],
)
def test_settings_that_a_loss_cant_have_are_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        config_of(**changes)


@pytest.mark.parametrize("loss", LOSSES)
def test_resolving_any_method_twice_changes_nothing(loss):
    config = config_of(loss=loss)
    assert resolved(config, in_memory=True, has_soft_labels=True) == config
    assert loss_of(config).name == loss


def test_distilling_needs_something_to_distil():
    with pytest.raises(UsageError, match="--loss kd needs --soft-labels STORE or --teacher SPEC"):
        config_of(has_soft_labels=False, loss="kd")


def test_resolving_twice_changes_nothing():
    config = config_of()
    assert resolved(config, in_memory=True, has_soft_labels=True) == config


def test_the_rate_drops_after_the_published_epochs():
    """Published epochs count from 1: 150 is the last at the full rate, index 149."""
    config = config_of(epochs=240, lr=0.05)
    rates = [learning_rate(config, epoch) for epoch in range(240)]
    assert rates[:150] == [0.05] * 150
    assert rates[150:180] == [pytest.approx(0.005)] * 30
    assert rates[180:210] == [pytest.approx(0.0005)] * 30
    assert rates[210:] == [pytest.approx(0.00005)] * 30


def test_the_rate_drops_after_the_published_epochs_of_imagenet():
    config = config_of(in_memory=False, epochs=100, lr=0.2)
    rates = [learning_rate(config, epoch) for epoch in range(100)]
    assert rates[:30] == [0.2] * 30
    assert rates[30:60] == [pytest.approx(0.02)] * 30
    assert rates[60:90] == [pytest.approx(0.002)] * 30
    assert rates[90:] == [pytest.approx(0.0002)] * 10


@pytest.mark.parametrize(
    ("loss", "setting", "published"), [("ctkd", "loops", 5), ("dkd", "warmup", 1)]
)
def test_what_counts_epochs_lasts_no_longer_in_a_longer_run(loss, setting, published):
    """CTKD was published with 120 epochs on ImageNet, the others with 100."""
    for epochs in (100, 120, 300):
        config = config_of(in_memory=False, loss=loss, epochs=epochs)
        assert config.loss_settings[setting] == published


def test_the_cosine_falls_from_the_rate_towards_nothing():
    config = config_of(epochs=8, lr=0.4, sched="cosine")
    assert config.milestones == ()
    rates = [learning_rate(config, epoch) for epoch in range(8)]
    assert rates[0] == 0.4
    assert rates[4] == pytest.approx(0.2)
    assert rates[2] == pytest.approx(0.2 * (1 + 2**-0.5))
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[7] < 0.02


def test_the_warm_up_rises_evenly_and_the_schedule_goes_on_after_it():
    for sched in ("step", "cosine"):
        plain = config_of(epochs=10, lr=0.1, sched=sched)
        warm = dataclasses.replace(plain, warmup_epochs=4)
        rates = [learning_rate(warm, epoch) for epoch in range(10)]
        rise = (0.1 - 1e-5) / 4
        assert rates[:4] == pytest.approx([1e-5 + epoch * rise for epoch in range(4)])
        assert rates[4:] == [learning_rate(plain, epoch) for epoch in range(4, 10)]


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
        ({"skip": -1}, "skip must be 0 or more"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"temperature": -4.0}, "temperature must be above 0"),
        ({"momentum": 1.0}, "momentum must be from 0 to below 1"),
        ({"weight_decay": -1e-4}, "weight_decay must be 0 or more"),
        ({"seed": 2**64}, r"seed must be from 0 to below 2\*\*64"),
        ({"milestones": (3, 2)}, "milestones are epochs from 0 in order"),
        ({"loss": "kld"}, "unknown loss 'kld': did you mean 'kd'"),
        ({"sched": "cosin"}, "unknown schedule 'cosin': did you mean 'cosine'"),
        ({"grad_accum_steps": 0}, "grad_accum_steps must be 1 or more"),
        ({"warmup_epochs": -1}, "warmup_epochs must be 0 or more"),
        ({"model_ema_decay": 1.0}, "model_ema_decay must be from 0 to below 1"),
        ({"verify_pixels": "some"}, "unknown way to verify pixels 'some'"),
    ],
)
def test_a_value_that_cant_be_meant_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        small_config(**changes)


def test_the_samples_of_a_run():
    assert small_config().trained_samples(120) == range(120)
    assert small_config(limit=60).trained_samples(120) == range(60)
    assert small_config(skip=40).trained_samples(120) == range(40, 120)
    assert small_config(skip=40, limit=30).trained_samples(120) == range(40, 70)
    assert small_config(skip=40, limit=300).trained_samples(120) == range(40, 120)
    with pytest.raises(UsageError, match="--skip 120 leaves nothing .*: there are 120 samples"):
        small_config(skip=120).trained_samples(120)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: [", "config.yaml is not YAML"),
        ("- 1", "config.yaml: it must map fields to values, not be a list"),
        ("student: cifar:resnet8\nlr: fast", "config.yaml: lr must be a number, not 'fast'"),
        ("student: cifar:resnet8\nlearning_rate: 1", "config.yaml: unknown field 'learning_rate'"),
        ("lr: 0.1", "config.yaml: student is missing"),
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
        config_of(amp=True)
