"""Events are TensorBoard's own, and a run never depends on them."""

from __future__ import annotations

import os

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from logitbank.pipeline.student import train
from logitbank.pipeline.student.tensorboard import EventFile
from tests.pipeline.student.student_examples import small_config, small_dataset
from tests.pipeline.student.student_nets import PLAIN_NET


def epoch(number: int, **metrics: float | None) -> dict:
    return {"epoch": number, "loss": 1.0 / (number + 1), "top1": None, **metrics}


def scalars(folder, name: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_an_epoch_is_a_scalar_a_metric(tmp_path):
    events = EventFile(tmp_path, 0)
    events.write(epoch(0, lr=0.5))
    events.write(epoch(1, lr=0.25))
    assert scalars(tmp_path, "lr") == [(0, 0.5), (1, 0.25)]
    assert scalars(tmp_path, "loss") == [(0, 1.0), (1, 0.5)]
    assert EventAccumulator(str(tmp_path)).Reload().Tags()["scalars"] == ["loss", "lr"]


def test_a_later_attempt_purges_what_it_does_again(tmp_path):
    first = EventFile(tmp_path, 0)
    for number in range(3):
        first.write(epoch(number, lr=1.0))
    EventFile(tmp_path, 1).write(epoch(1, lr=2.0))
    assert scalars(tmp_path, "lr") == [(0, 1.0), (1, 2.0)]


def test_what_can_not_be_written_is_told_once(tmp_path, caplog):
    events = EventFile(tmp_path / "gone", 0)
    events.write(epoch(0))
    events.write(epoch(1))
    [line] = [record.getMessage() for record in caplog.records]
    assert "(No such file or directory): the run goes on without them" in line


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_run_on_a_full_disk_of_events_goes_on(tmp_path, monkeypatch, caplog):
    def to_a_full_disk(self, folder, first_epoch):
        initialise(self, folder, first_epoch)
        os.symlink("/dev/full", self._path)

    initialise = EventFile.__init__
    monkeypatch.setattr(EventFile, "__init__", to_a_full_disk)
    config = small_config(student=PLAIN_NET, epochs=2)
    assert len(train(config, small_dataset(), out=tmp_path).metrics) == 2
    [line] = [record.getMessage() for record in caplog.records]
    assert "(No space left on device): the run goes on without them" in line
