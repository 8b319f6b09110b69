"""Options of a run in timm's names: accumulation, averaged weights, compilation, schedules."""

from __future__ import annotations

import pytest
import torch

from logitbank.pipeline.evaluate import Accuracy
from logitbank.pipeline.models import load_model
from logitbank.pipeline.student import TrainConfig, train, trainer
from logitbank.pipeline.student.resolution import resolved
from logitbank.pipeline.student.schedule import learning_rate
from logitbank.stores.errors import LogitbankError, UsageError
from tests.pipeline.student.student_examples import (
    CLASSES,
    losses_of,
    small_config,
    weights_of,
)
from tests.pipeline.student.student_nets import PLAIN_NET


def config(**changes) -> TrainConfig:
    """A network whose gradient of a whole batch is the mean of those of its parts."""
    return small_config(**{"student": PLAIN_NET} | changes)


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(one[key], other[key], rtol=1e-4, atol=1e-6) for key in one)


# ---- Accumulation


def test_accumulated_batches_are_a_batch_as_large_as_them_together(tmp_path, dataset):
    """120 images: six batches of 20 by two are three of 40."""
    whole = config(batch_size=40)
    parts = config(batch_size=20, grad_accum_steps=2)
    losses = losses_of(whole, dataset, tmp_path / "whole")
    found = losses_of(parts, dataset, tmp_path / "parts")
    assert len(found) == 2 * len(losses)
    means = [sum(found[at : at + 2]) / 2 for at in range(0, len(found), 2)]
    assert means == pytest.approx(losses, rel=1e-4)
    assert close(weights_of(tmp_path / "parts"), weights_of(tmp_path / "whole"))


def test_an_epochs_last_step_takes_what_is_left(tmp_path, dataset):
    """Batches of 40, 40, 40 by two: a step of 80 images and one of 40, of a mean each."""
    steps = []
    inner = torch.optim.SGD.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch.optim.SGD, "step", lambda self, *a: (steps.append(1), inner(self, *a))[1]
        )
        run = config(batch_size=40, grad_accum_steps=2, epochs=3)
        losses_of(run, dataset, tmp_path / "run")
    assert len(steps) == 3 * 2
    last = config(batch_size=40, grad_accum_steps=9, epochs=1)
    whole = config(batch_size=120, epochs=1)
    losses_of(last, dataset, tmp_path / "last")
    losses_of(whole, dataset, tmp_path / "whole")
    assert close(weights_of(tmp_path / "last"), weights_of(tmp_path / "whole"))


# ---- Averaged weights


def test_the_average_follows_every_step(tmp_path, dataset, monkeypatch):
    """a = d · a + (1 - d) · s after each step; whole numbers are the student's."""
    states = []
    inner = trainer.Trainer.step

    def watched(self, *taught):
        if not states:
            states.append(copied(self))
        terms = inner(self, *taught)
        states.append(copied(self))
        return terms

    def copied(self):
        return {k: v.clone() for k, v in self.model.module.state_dict().items()}

    monkeypatch.setattr(trainer.Trainer, "step", watched)
    run = small_config(
        student="cifar:resnet8", model_ema=True, model_ema_decay=0.75, epochs=2, limit=100
    )
    losses_of(run, dataset, tmp_path / "run")
    average = states[0]
    for state in states[1:]:
        average = {
            key: 0.75 * average[key] + 0.25 * value if value.is_floating_point() else value
            for key, value in state.items()
        }
    found = weights_of(tmp_path / "run", "ema.pt")
    assert close(found, average)
    assert not close(found, weights_of(tmp_path / "run"))
    assert found["bn1.num_batches_tracked"] == 4


def test_the_average_is_evaluated_and_saved_beside(tmp_path, dataset, monkeypatch):
    def scored(model, *_, **__):
        mean = sum(float(value.detach().double().sum()) for value in model.module.parameters())
        return Accuracy(top1=abs(mean) % 100, top5=100.0, samples=10)

    monkeypatch.setattr("logitbank.pipeline.student.training.evaluate", scored)
    out = tmp_path / "run"
    run = config(model_ema=True, model_ema_decay=0.5)
    last = train(run, dataset, out=out, eval_dataset=dataset).last
    for name, key in (("last.pt", "top1"), ("ema.pt", "ema_top1")):
        spec = f"{PLAIN_NET}@{out / name}"
        model = load_model(spec, classes=CLASSES, pretrained=True)
        assert scored(model).top1 == pytest.approx(last[key], rel=1e-9)
    assert last["top1"] != last["ema_top1"]


def test_without_it_there_is_no_average(tmp_path, dataset):
    last = train(config(), dataset, out=tmp_path / "run").last
    assert not (tmp_path / "run" / "ema.pt").exists()
    assert "ema_top1" not in last


def test_averaging_changes_nothing_in_the_student(tmp_path, dataset):
    plain = losses_of(config(), dataset, tmp_path / "plain")
    assert losses_of(config(model_ema=True), dataset, tmp_path / "averaged") == plain


# ---- Schedules


@pytest.mark.parametrize("sched", ["step", "cosine"])
def test_the_optimiser_runs_at_the_rate_of_the_schedule(tmp_path, dataset, monkeypatch, sched):
    rates = []
    inner = torch.optim.SGD.step

    def watched(self, *arguments):
        rates.append(self.param_groups[0]["lr"])
        return inner(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", watched)
    run = config(epochs=4, sched=sched, warmup_epochs=1, batch_size=120)
    result = train(run, dataset, out=tmp_path / "run")
    complete = resolved(run, in_memory=True, has_soft_labels=False)
    expected = [learning_rate(complete, epoch) for epoch in range(4)]
    assert rates == expected
    assert [line["lr"] for line in result.metrics] == expected


# ---- torch.compile


def test_a_compiled_network_learns_the_same(tmp_path, dataset):
    plain = losses_of(config(epochs=1), dataset, tmp_path / "plain")
    run = config(epochs=1, torchcompile="aot_eager")
    assert losses_of(run, dataset, tmp_path / "compiled") == pytest.approx(plain, rel=1e-5)
    assert weights_of(tmp_path / "compiled").keys() == weights_of(tmp_path / "plain").keys()


def test_an_unknown_backend_is_named(tmp_path, dataset):
    with pytest.raises(UsageError, match="backend of --torchcompile 'inducto': did you mean 'ind"):
        losses_of(config(torchcompile="inducto"), dataset, tmp_path / "run")


def test_a_network_that_cant_be_compiled_here_is_one_line(tmp_path, dataset, monkeypatch):
    def fails(graph, inputs):
        raise RuntimeError("no compiler\nwas found")

    torch._dynamo.register_backend(fails, name="failing")
    with pytest.raises(LogitbankError, match="torch.compile with failing fails here .*without --t"):
        losses_of(config(torchcompile="failing"), dataset, tmp_path / "run")
