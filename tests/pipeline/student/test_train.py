"""Training: what a step is, that cached equals online, and what a run leaves behind."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from logitbank.pipeline.evaluate import Accuracy
from logitbank.pipeline.models import default_normalisation, load_model, normalise
from logitbank.pipeline.student import Progress, batches, train
from logitbank.pipeline.student.config import TrainConfig
from logitbank.pipeline.student.resolution import resolved
from logitbank.pipeline.views import parse_augmentation
from logitbank.pipeline.views.draws import epoch_order, view_of_epoch
from logitbank.pipeline.views.rendering.renderer import ViewRenderer
from logitbank.stores.errors import LogitbankError, UsageError
from tests.pipeline.student.student_examples import (
    BATCH,
    CLASSES,
    losses_of,
    same_weights,
    small_config,
    small_dataset,
    small_store,
    small_teacher,
    timeless,
    weights_of,
)


@pytest.fixture(scope="module")
def dataset():
    return small_dataset()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("student")


@pytest.fixture(scope="module")
def teacher(folder):
    return small_teacher(folder)


@pytest.fixture(scope="module")
def soft(folder, dataset, teacher):
    return small_store(folder / "raw.zarr", dataset, teacher)


@pytest.fixture(scope="module")
def distilled(folder, dataset, soft):
    """A run of two epochs from the store, and its losses."""
    out = folder / "distilled"
    return out, losses_of(small_config(), dataset, out, soft_labels=soft)


def plain_losses(dataset, config: TrainConfig, soft=None, teacher=None) -> tuple[list[float], dict]:
    """The same training, written out: one loop, torch's own loss functions, logits by index."""
    torch.set_num_threads(2)
    torch.manual_seed(config.seed)
    norm = default_normalisation(dataset)
    student = load_model(config.student, classes=CLASSES, normalisation=norm).module.train()
    optimiser = torch.optim.SGD(student.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    augmentation = parse_augmentation("cifar-weak", size=32)
    renderer = ViewRenderer(dataset, augmentation)
    losses = []
    for epoch in range(config.epochs):
        for group in optimiser.param_groups:
            group["lr"] = 0.05 * 0.1 ** sum(m <= epoch for m in config.milestones or (9, 9, 9))
        view = view_of_epoch(epoch, soft.views if soft else 162, config.seed)
        logits = torch.from_numpy(soft.store.read_view("logits", view)) if soft else None
        seed = soft.augmentation.seed if soft else config.seed
        order = epoch_order(epoch, len(dataset), config.seed)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            pixels, _ = renderer.draw(seed, view, chosen)
            out = student(normalise(pixels, norm))
            loss = F.cross_entropy(out, torch.from_numpy(dataset.targets[chosen]).long())
            if soft or teacher:
                said = logits[chosen] if soft else teacher.module(normalise(pixels, norm))
                p = F.softmax(said / 4, 1)
                kl = F.kl_div(F.log_softmax(out / 4, 1), p, reduction="batchmean") * 16
                loss = 0.1 * loss + 0.9 * kl
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    return losses, student.state_dict()


def test_training_from_a_store_is_the_plain_loop(dataset, soft, distilled):
    _, losses = distilled
    expected, _ = plain_losses(dataset, small_config(), soft)
    assert len(losses) == 2 * 3
    assert losses == pytest.approx(expected, rel=1e-4)


def test_training_from_labels_is_the_plain_loop_bit_for_bit(tmp_path, dataset):
    config = small_config(milestones=(1,), seed=3)
    losses = losses_of(config, dataset, tmp_path / "run")
    expected, state = plain_losses(dataset, config)
    assert losses == expected
    found = weights_of(tmp_path / "run")
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_cached_equals_online_at_every_step_and_in_every_weight(
    tmp_path, dataset, soft, teacher, distilled
):
    out, cached = distilled
    online = losses_of(small_config(), dataset, tmp_path / "run", soft_labels=soft, teacher=teacher)
    assert online == cached
    assert same_weights(tmp_path / "run", out)


def test_the_teacher_is_not_needed_once_cached(tmp_path, dataset, soft, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a forward pass of the teacher")

    monkeypatch.setattr("logitbank.pipeline.student.training_setup.forward_logits", refuse)
    losses_of(small_config(epochs=1), dataset, tmp_path / "run", soft_labels=soft)


def test_a_teacher_without_a_store_sees_the_datasets_weak_views(tmp_path, dataset, teacher):
    config = small_config(seed=4)
    losses = losses_of(config, dataset, tmp_path / "run", teacher=teacher)
    expected, _ = plain_losses(dataset, config, teacher=teacher)
    assert losses == pytest.approx(expected, rel=1e-4)


def test_hard_labels_on_the_views_of_a_store(tmp_path, dataset, soft):
    """`--loss ce` beside a store: its views, no soft labels; the same epoch order."""
    every = small_config(loss="ce")
    losses = losses_of(every, dataset, tmp_path / "run", soft_labels=soft)
    metrics = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert metrics["view"] == view_of_epoch(0, soft.views, 0)
    assert "loss_kd" not in metrics
    assert losses[0] > 1  # an untrained network's cross-entropy, of weight 1


def test_limit_takes_the_first_samples(tmp_path, dataset, soft):
    """A store of all samples serves a run of the first ones."""
    config = small_config(limit=60)
    cached = losses_of(config, dataset, tmp_path / "run", soft_labels=soft)
    cut = losses_of(small_config(), dataset.head(60), tmp_path / "cut")
    limited = losses_of(config, dataset, tmp_path / "limited")
    assert len(cached) == 2 * 2
    assert limited == cut


@pytest.mark.parametrize("from_store", [True, False])
def test_skip_leaves_the_first_samples_out_and_keeps_the_others_views(
    tmp_path, dataset, soft, monkeypatch, from_store
):
    seen: list = []
    inner = batches.MemoryBatches.batches

    def watched(self, order):
        for batch in inner(self, order):
            seen.append(batch)
            yield batch

    monkeypatch.setattr(batches.MemoryBatches, "batches", watched)
    learned = {"soft_labels": soft} if from_store else {}
    losses_of(small_config(skip=45, limit=60, epochs=1), dataset, tmp_path / "run", **learned)
    view = view_of_epoch(0, soft.views if from_store else 162, 0)
    samples = torch.cat([batch.rows for batch in seen]) % (120 if from_store else 105)
    assert sorted(samples.tolist()) == list(range(45, 105))
    renderer = ViewRenderer(dataset, parse_augmentation("cifar-weak", size=32))
    expected, _ = renderer.draw(0, view, samples)
    assert torch.equal(torch.cat([batch.pixels for batch in seen]), expected)
    targets = torch.cat([batch.targets for batch in seen])
    assert targets.tolist() == dataset.targets[samples].tolist()


def test_a_view_of_every_sample_is_seen_once_an_epoch(tmp_path, dataset, soft, monkeypatch):
    seen: list[list[int]] = []
    inner = batches.MemoryBatches.batches

    def watched(self, order):
        seen.append([])
        for batch in inner(self, order):
            seen[-1] += batch.rows.tolist()
            yield batch

    monkeypatch.setattr(batches.MemoryBatches, "batches", watched)
    losses_of(small_config(epochs=3), dataset, tmp_path / "run", soft_labels=soft)
    views = [view_of_epoch(epoch, 3, 0) for epoch in range(3)]
    assert sorted(views) == [0, 1, 2]
    for view, rows in zip(views, seen, strict=True):
        assert sorted(rows) == list(range(view * 120, view * 120 + 120))
        assert rows != sorted(rows)


def test_a_run_leaves_its_files(tmp_path, dataset, soft):
    out = tmp_path / "run"
    evaluation = small_dataset(40, split="test", seed=1)
    result = train(
        small_config(epochs=3), dataset, out=out, soft_labels=soft, eval_dataset=evaluation
    )
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert list(lines[0])[:5] == ["epoch", "loss", "top1", "top5", "images_per_second"]
    assert lines == list(result.metrics)
    for line in lines:
        assert 0 <= line["top1"] <= line["top5"] <= 100
        weighted = 0.1 * line["loss_ce"] + 0.9 * line["loss_kd"]
        assert line["loss"] == pytest.approx(weighted, rel=1e-5)
    config = TrainConfig.from_yaml((out / "config.yaml").read_text(), "config.yaml")
    assert config == resolved(small_config(epochs=3), in_memory=True, has_soft_labels=True)
    assert sorted(path.name.split(".")[0] for path in out.iterdir()) == [
        "best",
        "config",
        "events",
        "last",
        "metrics",
    ]
    events = EventAccumulator(str(out)).Reload()
    assert [event.step for event in events.Scalars("top1")] == [0, 1, 2]
    assert events.Scalars("loss")[2].value == pytest.approx(lines[2]["loss"], rel=1e-6)


def test_best_is_the_first_epoch_of_the_highest_top1(tmp_path, dataset, monkeypatch):
    scores = iter([40.0, 60.0, 60.0, 50.0])
    states = []

    def scored(model, *_, **__):
        states.append({k: v.clone() for k, v in model.module.state_dict().items()})
        return Accuracy(top1=next(scores), top5=100.0, samples=10)

    monkeypatch.setattr("logitbank.pipeline.student.training.evaluate", scored)
    out = tmp_path / "run"
    result = train(small_config(epochs=4), dataset, out=out, eval_dataset=dataset)
    assert result.best["epoch"] == 1
    assert result.last["epoch"] == 3
    best = weights_of(out, "best.pt")
    assert all(torch.equal(best[key], states[1][key]) for key in best)


def test_without_an_evaluation_split_top1_is_null_and_best_is_last(distilled):
    out, _ = distilled
    lines = (out / "metrics.jsonl").read_text().splitlines()
    assert all('"top1": null, "top5": null' in line for line in lines)
    best, last = weights_of(out, "best.pt"), weights_of(out)
    assert all(torch.equal(best[key], last[key]) for key in last)


def test_a_runs_checkpoint_is_a_model_with_its_own_inputs(distilled, dataset):
    out, _ = distilled
    model = load_model(f"cifar:resnet8@{out / 'best.pt'}", classes=CLASSES, pretrained=True)
    assert model.normalisation == default_normalisation(dataset)
    assert model.input_size == 32


def test_progress_tells_of_each_step_and_of_each_epochs_metrics(tmp_path, dataset):
    seen: list[Progress] = []
    train(small_config(), dataset, out=tmp_path / "run", progress=seen.append)
    steps = [(each.epoch, each.step, each.steps) for each in seen if each.metrics is None]
    assert steps == [(epoch, step, 3) for epoch in (0, 1) for step in (1, 2, 3)]
    assert [each.metrics["epoch"] for each in seen if each.metrics] == [0, 1]


def test_seeds_differ_and_one_seed_repeats(tmp_path, dataset):
    def losses(seed: int, name: str) -> list[float]:
        return losses_of(small_config(seed=seed, epochs=1), dataset, tmp_path / name)

    first = losses(0, "a")
    assert losses(0, "b") == first
    assert losses(1, "c") != first


def test_the_callers_threads_are_restored(tmp_path, dataset):
    torch.set_num_threads(2)
    train(small_config(epochs=1, threads=1), dataset, out=tmp_path / "run")
    assert torch.get_num_threads() == 2


def test_channels_last_trains(tmp_path, dataset):
    plain = losses_of(small_config(epochs=1), dataset, tmp_path / "a")
    other = losses_of(small_config(epochs=1, channels_last=True), dataset, tmp_path / "b")
    assert other == pytest.approx(plain, rel=1e-3)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_epochs_before(tmp_path, dataset):
    config = small_config(epochs=3, lr=1e30)
    with pytest.raises(LogitbankError, match=r"the loss of epoch 0 is .*1e\+30: lower it"):
        train(config, dataset, out=tmp_path / "run")
    assert not (tmp_path / "run" / "last.pt").exists()


def test_a_student_of_another_input_size_is_refused(tmp_path, dataset, soft, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "big_net.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    layers = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7)\n"
        "    return nn.Sequential(*layers), dict(input_size=64)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match="views of 32 × 32, but import:big_net:net takes .* 64"):
        train(
            small_config(student="import:big_net:net"),
            dataset,
            out=tmp_path / "run",
            soft_labels=soft,
        )
    assert not (tmp_path / "run").exists()


def test_a_last_batch_of_one_image_is_explained_where_it_cant_be_trained(
    tmp_path, dataset, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flat_net.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    layers = nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 7)\n"
        "    return nn.Sequential(*layers), dict(input_size=32)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    config = small_config(student="import:flat_net:net", limit=BATCH + 1)
    with pytest.raises(UsageError, match="batch is a single image.*choose another --batch-size"):
        train(config, dataset, out=tmp_path / "run")


def test_metrics_do_not_depend_on_how_many_threads_render(tmp_path, dataset, soft):
    results = [
        train(
            small_config(epochs=1, workers=workers),
            dataset,
            out=tmp_path / str(workers),
            soft_labels=soft,
        )
        for workers in (0, 3)
    ]
    assert timeless(results[0].metrics) == timeless(results[1].metrics)
