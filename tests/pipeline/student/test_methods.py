"""Every method at work in a run: its schedule by the epoch, what it trains, what it is given."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from logitbank.pipeline.losses import LOSSES, loss_class
from logitbank.pipeline.models import default_normalisation, load_model, normalise
from logitbank.pipeline.soft_labels import SoftLabels
from logitbank.pipeline.student import TrainConfig, loss_of, resolved_config, train
from logitbank.pipeline.views import parse_augmentation
from logitbank.pipeline.views.draws import epoch_order, view_of_epoch
from logitbank.pipeline.views.rendering.renderer import ViewRenderer
from tests.pipeline.student.student_examples import (
    BATCH,
    CLASSES,
    corrected,
    losses_of,
    same_weights,
    small_config,
    small_store,
)
from tests.pipeline.student.student_nets import DROPOUT_NET


@pytest.fixture(scope="module")
def stores(folder, pair):
    """One raw store, and corrected ones of it."""
    return {
        "raw": pair[0],
        "swap": corrected(pair[0], "swap", folder / "swap.zarr"),
        "sort": corrected(pair[0], "sort", folder / "sort.zarr"),
        "swap as read": SoftLabels.open(pair[0].store.where, correction="swap"),
    }


def config(loss: str, **changes) -> TrainConfig:
    return small_config(**{"student": DROPOUT_NET, "loss": loss} | changes)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_method_trains_by_name_and_writes_its_settings_down(tmp_path, dataset, pair, loss):
    run = config(loss, epochs=1)
    stores = pair[: loss_class(loss).views]
    method = loss_of(resolved_config(run, dataset, stores, None))
    result = train(run, dataset, out=tmp_path / "run", soft_labels=stores)
    assert math.isfinite(result.last["loss"])
    assert ("loss_kd" in result.last) == (loss != "ce")
    written = TrainConfig.from_yaml((tmp_path / "run" / "config.yaml").read_text(), "config.yaml")
    assert loss_of(written) == method


def test_dkd_warms_up_over_its_first_epochs(tmp_path, dataset, pair):
    """min(epoch / W, 1) with epochs counted from 1: with W = 3 a third of it at first."""
    run = config("dkd", epochs=4, loss_settings={"warmup": 3})
    result = train(run, dataset, out=tmp_path / "run", soft_labels=pair[0])
    for line, share in zip(result.metrics, (1 / 3, 2 / 3, 1, 1), strict=True):
        assert line["loss"] == pytest.approx(line["loss_ce"] + share * line["loss_kd"], rel=1e-5)
        parts = line["loss_tckd"] + 8 * line["loss_nckd"]
        assert line["loss_kd"] == pytest.approx(parts, rel=1e-5)


def test_sld_learns_from_itself_after_gamma(tmp_path, dataset, pair):
    run = config("sld-kd", epochs=4, milestones=(2, 3))
    result = train(run, dataset, out=tmp_path / "run", soft_labels=pair[0])
    assert ["loss_self" in line for line in result.metrics] == [False, False, True, True]
    rates = [line["lr"] for line in result.metrics]
    assert rates == pytest.approx([0.05, 0.05, 0.005, 0.0005])


def plain_ctkd(dataset, run: TrainConfig, soft: SoftLabels) -> tuple[list[float], float]:
    """CTKD written out: θ beside the network in one SGD, its gradient reversed by hand."""
    torch.manual_seed(run.seed)
    norm = default_normalisation(dataset)
    net = load_model(run.student, classes=CLASSES, normalisation=norm).module.train()
    theta = torch.nn.Parameter(torch.ones(()))
    weights = [*net.parameters(), theta]
    optimiser = torch.optim.SGD(weights, run.lr, momentum=0.9, weight_decay=5e-4)
    renderer = ViewRenderer(dataset, parse_augmentation("cifar-weak", size=32))
    losses = []
    for epoch in range(run.epochs):
        factor = (math.cos(math.pi * min(epoch + 1, 2) / 2) - 1) / 2
        view = view_of_epoch(epoch, soft.views, run.seed)
        logits = torch.from_numpy(soft.store.read_view("logits", view))
        order = epoch_order(epoch, len(dataset), run.seed)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            out = net(normalise(renderer.draw(0, view, chosen)[0], norm))
            temperature = 1 + 20 * torch.sigmoid(theta)
            p = F.softmax(logits[chosen] / temperature, 1)
            kl = (p * (p.log() - F.log_softmax(out / temperature, 1))).sum(1).mean()
            ce = F.cross_entropy(out, torch.from_numpy(dataset.targets[chosen]).long())
            loss = 0.1 * ce + 0.9 * temperature**2 * kl
            optimiser.zero_grad()
            loss.backward()
            theta.grad *= factor
            optimiser.step()
            losses.append(loss.item())
    return losses, theta.item()


def test_ctkd_learns_its_temperature_in_the_students_optimiser(tmp_path, dataset, pair):
    run = config("ctkd", epochs=3, milestones=(), loss_settings={"loops": 2})
    found = losses_of(run, dataset, tmp_path / "run", soft_labels=pair[0])
    losses, theta = plain_ctkd(dataset, run, pair[0])
    assert found == pytest.approx(losses, rel=2e-4)
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    learned = state["training"]["state"]["learned"]["theta"].item()
    assert abs(theta - 1) > 1e-4
    assert learned - 1 == pytest.approx(theta - 1, rel=1e-2)
    assert "theta" not in state["model"]


# ---- What SLD makes of the logits that it is given


@pytest.mark.parametrize(
    ("store", "swaps", "correction"),
    [
        ("raw", False, "swap"),
        ("swap", False, "swap"),
        ("sort", False, "sort"),
        ("swap as read", False, "swap"),
    ],
)
def test_logits_of_a_store_come_swapped_or_otherwise_corrected(
    tmp_path, dataset, stores, store, swaps, correction
):
    run = config("sld-kd", epochs=1)
    losses_of(run, dataset, tmp_path / "run", soft_labels=stores[store])
    written = TrainConfig.from_yaml((tmp_path / "run" / "config.yaml").read_text(), "config.yaml")
    assert written.loss_settings["swap_teacher"] is swaps
    assert written.teacher_correction == correction


def test_sld_is_the_same_on_raw_and_on_swapped_logits_and_another_on_sorted_ones(
    tmp_path, dataset, stores
):
    run = config("sld-kd", epochs=1)
    found = {
        name: losses_of(run, dataset, tmp_path / name, soft_labels=soft)
        for name, soft in stores.items()
    }
    assert found["raw"] == found["swap"] == found["swap as read"]
    assert found["sort"] != found["raw"]
    assert same_weights(tmp_path / "raw", tmp_path / "swap")


def test_logits_that_tie_in_float16_are_swapped_in_the_teachers_own_order(
    tmp_path, dataset, teacher
):
    """Around 600 a step of float16 is a half: rows tie where the teacher's own logits did not."""
    module = copy.deepcopy(teacher.module)
    last = list(module.modules())[-1]
    last.weight.data *= 10
    last.bias.data += 600
    loud = dataclasses.replace(teacher, module=module)
    raw = small_store(tmp_path / "raw.zarr", dataset, loud, encoding="float16")
    codes, top = (raw.store.read_view(name, raw.view(0)) for name in ("logits", "top"))
    is_wrong = codes[range(len(codes)), raw.store.target] != codes.max(axis=1)
    assert (is_wrong & (codes.argmax(axis=1) != top[:, 0])).sum() > 10
    run, swapped = config("sld-kd", epochs=1), corrected(raw, "swap", tmp_path / "swap.zarr")
    found = losses_of(run, dataset, tmp_path / "raw", soft_labels=raw)
    assert found == losses_of(run, dataset, tmp_path / "swap", soft_labels=swapped)
    assert same_weights(tmp_path / "raw", tmp_path / "swap")


def test_a_teacher_in_the_loop_is_raw_whatever_the_store_holds(tmp_path, dataset, stores, teacher):
    run = config("sld-kd", epochs=1)
    online = losses_of(
        run, dataset, tmp_path / "online", soft_labels=stores["sort"], teacher=teacher
    )
    assert online == losses_of(run, dataset, tmp_path / "raw", soft_labels=stores["raw"])
    written = TrainConfig.from_yaml((tmp_path / "online" / "config.yaml").read_text(), "it")
    assert (written.loss_settings["swap_teacher"], written.teacher_correction) == (True, None)


def test_settings_by_pair_follow_the_stores_teacher(dataset, pair, monkeypatch):
    run = config("dkd", student="cifar:resnet20")
    assert resolved_config(run, dataset, (pair[0],), None).loss_settings["beta"] == 8.0
    found = pair[0].manifest
    teacher = dataclasses.replace(found.teacher, spec="cifar:resnet56")
    made = dataclasses.replace(found, teacher=teacher)
    monkeypatch.setattr(SoftLabels, "manifest", property(lambda soft: made))
    assert resolved_config(run, dataset, (pair[0],), None).loss_settings["beta"] == 2.0
