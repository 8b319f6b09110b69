"""What a lost power supply or a failing disk leaves of a run is set aside, told, and made good."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from logitbank.pipeline.evaluate import Accuracy
from logitbank.pipeline.student import TrainConfig, TrainResult, train, training
from logitbank.pipeline.student.checkpoint_file import DamagedCheckpointError, read_checkpoint
from logitbank.stores.errors import LogitbankError, StoreError
from tests.pipeline.student.student_examples import (
    same_weights,
    small_config,
    small_dataset,
    timeless,
    weights_of,
)
from tests.pipeline.student.student_nets import DROPOUT_NET, PLAIN_NET

CONFIG = small_config(student=DROPOUT_NET, epochs=3, milestones=(1,), model_ema=True)
KEPT = ("config.yaml", "metrics.jsonl", "best.pt", "last.pt", "ema.pt")


class Killed(BaseException):
    """What a kill looks like from within: nothing catches it."""


@pytest.fixture(scope="module")
def dataset():
    return small_dataset()


@pytest.fixture(scope="module")
def evaluation():
    return small_dataset(40, split="test", seed=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, dataset, evaluation) -> TrainResult:
    """A finished run whose best epoch is its first, of three."""
    falling = itertools.count(90, -1)
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "evaluate", lambda *_, **__: Accuracy(next(falling), 99, 40))
        result = train(CONFIG, dataset, out=out, eval_dataset=evaluation)
    assert result.best["epoch"] == 0
    return result


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory, dataset) -> Path:
    """The same run without an evaluation split, whose best epoch is its last, killed after two."""

    def kill(step: int, loss: float) -> None:
        if step == 7:
            raise Killed

    out = tmp_path_factory.mktemp("unfinished") / "run"
    with pytest.raises(Killed):
        train(CONFIG, dataset, out=out, on_step=kill)
    return out


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, dataset) -> TrainResult:
    return train(CONFIG, dataset, out=tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def run(tmp_path, unfinished) -> Path:
    return Path(shutil.copytree(unfinished, tmp_path / "run"))


@pytest.fixture
def finished(tmp_path, whole) -> Path:
    return Path(shutil.copytree(whole.out, tmp_path / "run"))


def empty(content: bytes) -> bytes:
    return b""


def halved(content: bytes) -> bytes:
    return content[: len(content) // 2]


def zeros(content: bytes) -> bytes:
    return bytes(len(content))


def tail_of_zeros(content: bytes) -> bytes:
    return halved(content) + bytes(len(content) - len(content) // 2)


def flipped(content: bytes) -> bytes:
    """One bit of a weight changed, which torch.load does not notice."""
    weight = weights_in(content)["6.weight"].numpy().tobytes()
    place = content.index(weight) + 4
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def weights_in(content: bytes) -> dict[str, torch.Tensor]:
    return torch.load(io.BytesIO(content), weights_only=True)["model"]


def spoil(path: Path, damage: Callable[[bytes], bytes]) -> bytes:
    spoilt = damage(path.read_bytes())
    path.write_bytes(spoilt)
    return spoilt


TEARS = [empty, halved, zeros, tail_of_zeros]


def assert_as_undisturbed(result: TrainResult, undisturbed: TrainResult) -> None:
    assert timeless(result.metrics) == timeless(undisturbed.metrics)
    for name in ("last.pt", "best.pt", "ema.pt"):
        assert same_weights(result.out, undisturbed.out, name)
    lines = (result.out / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == list(result.metrics)
    assert TrainConfig.from_yaml((result.out / "config.yaml").read_text(), "it") is not None


# ---- The last epoch


@pytest.mark.parametrize("damage", [*TEARS, flipped])
def test_a_damaged_last_epoch_begins_the_run_again(run, dataset, undisturbed, caplog, damage):
    best = (run / "best.pt").read_bytes()
    spoilt = spoil(run / "last.pt", damage)
    result = train(CONFIG, dataset, out=run)
    assert_as_undisturbed(result, undisturbed)
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"{run / 'last.pt'} is damaged (")
    assert "the run starts again, earlier files are kept as last.pt.damaged, " in line
    assert (run / "last.pt.damaged").read_bytes() == spoilt
    assert (run / "best.pt.earlier").read_bytes() == best


def test_what_was_set_aside_before_is_kept_as_well(run, dataset):
    for name in ("last.pt.damaged", "last.pt.damaged2", "best.pt.earlier"):
        (run / name).write_text(name)
    spoil(run / "last.pt", empty)
    train(CONFIG, dataset, out=run)
    assert (run / "last.pt.damaged3").read_bytes() == b""
    assert (run / "best.pt.earlier2").exists()
    for name in ("last.pt.damaged", "last.pt.damaged2", "best.pt.earlier"):
        assert (run / name).read_text() == name


def test_weights_without_their_last_epoch_are_kept(run, dataset, caplog):
    best = (run / "best.pt").read_bytes()
    (run / "last.pt").unlink()
    train(CONFIG, dataset, out=run)
    assert (run / "best.pt.earlier").read_bytes() == best
    assert "has no last.pt: the run starts again" in caplog.text


def test_a_disk_that_does_not_answer_is_no_damage(run, dataset, monkeypatch):
    def refuse(self):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("zipfile.ZipFile.testzip", refuse)
    with pytest.raises(StoreError, match="last.pt can't be read: Input/output error"):
        train(CONFIG, dataset, out=run)
    assert sorted(os.listdir(run)) == sorted({*KEPT, *(path.name for path in run.glob("events*"))})


def test_memory_that_does_not_suffice_is_no_damage(run, dataset, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(LogitbankError, match="last.pt is intact, but can't .*can't allocate"):
        train(CONFIG, dataset, out=run)
    assert (run / "last.pt").exists()


def test_a_student_that_is_built_otherwise_now_is_one_line(run, dataset, monkeypatch):
    from tests.pipeline.student import student_nets

    monkeypatch.setattr(student_nets, "dropout_net", student_nets.plain_net)
    before = (run / "last.pt").read_bytes()
    with pytest.raises(LogitbankError, match=r"last.pt does not fit .*dropout_net as it is built"):
        train(CONFIG, dataset, out=run)
    assert (run / "last.pt").read_bytes() == before


def test_a_changed_bit_of_the_table_is_noticed_or_changes_nothing(tmp_path):
    path = tmp_path / "last.pt"
    content = {"model": {"w": torch.arange(40.0)}, "training": {"metrics": [{"epoch": 0}]}}
    torch.save(content, path)
    written = path.read_bytes()
    noticed = 0
    for place in range(written.index(b"PK\1\2"), len(written)):  # the table of records
        path.write_bytes(written[:place] + bytes([written[place] ^ 16]) + written[place + 1 :])
        try:
            found = read_checkpoint(path)
        except DamagedCheckpointError:
            noticed += 1
        else:
            assert found["training"] == content["training"]
            assert torch.equal(found["model"]["w"], content["model"]["w"])
    assert noticed > 200


@pytest.mark.skipif(not hasattr(torch.serialization, "set_crc32_options"), reason="older torch")
def test_a_checkpoint_that_was_saved_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"training": {"metrics": []}}, tmp_path / "last.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_checkpoint(tmp_path / "last.pt") == {"training": {"metrics": []}}


# ---- Read once


def test_history_and_weights_are_of_one_reading(run, dataset, undisturbed, monkeypatch):
    """Another file under the same name, from a moment after it was read, changes nothing."""

    def prepare(*given):
        (run / "last.pt").write_bytes(b"of a later epoch")
        return inner(*given)

    inner = training.prepare
    monkeypatch.setattr(training, "prepare", prepare)
    assert_as_undisturbed(train(CONFIG, dataset, out=run), undisturbed)


# ---- The best epoch, and the average


@pytest.mark.parametrize("damage", [empty, flipped])
@pytest.mark.parametrize("name", ["best.pt", "ema.pt"])
def test_weights_of_the_last_epoch_are_written_again(
    run, dataset, undisturbed, caplog, name, damage
):
    spoilt = spoil(run / name, damage)
    assert_as_undisturbed(train(CONFIG, dataset, out=run), undisturbed)
    assert f"{name} is damaged (" in caplog.text
    assert (run / f"{name}.damaged").read_bytes() == spoilt


@pytest.mark.parametrize("damage", [empty, halved, flipped])
def test_a_best_epoch_that_is_lost_is_told_and_never_claimed(
    finished, whole, dataset, evaluation, caplog, damage
):
    spoil(finished / "best.pt", damage)
    result = train(CONFIG, dataset, out=finished, eval_dataset=evaluation)
    assert (result.best, result.has_best) == (whole.best, False)
    assert not (finished / "best.pt").exists()
    assert (finished / "best.pt.damaged").exists()
    assert f"weights of the best epoch, {whole.best['epoch'] + 1}, are lost" in caplog.text


def test_weights_of_another_epoch_are_not_the_best(finished, dataset, evaluation, caplog):
    shutil.copy(finished / "ema.pt", finished / "best.pt")
    result = train(CONFIG, dataset, out=finished, eval_dataset=evaluation)
    assert not result.has_best
    assert "best.pt is of another epoch: set aside as best.pt.damaged" in caplog.text


# ---- Configuration and metrics


@pytest.mark.parametrize("damage", TEARS)
@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl"])
def test_a_torn_text_is_written_again(finished, whole, dataset, evaluation, caplog, name, damage):
    written = (finished / name).read_text()
    spoilt = spoil(finished / name, damage)
    result = train(CONFIG, dataset, out=finished, eval_dataset=evaluation)
    assert (result.metrics, result.has_best) == (whole.metrics, True)
    assert (finished / name).read_text() == written
    assert (finished / f"{name}.damaged").read_bytes() == spoilt
    assert f"{name} is damaged: set aside as {name}.damaged" in caplog.text


def test_a_configuration_cut_between_two_lines_is_torn(finished, dataset, evaluation):
    written = (finished / "config.yaml").read_text()
    (finished / "config.yaml").write_text("".join(written.splitlines(keepends=True)[:9]))
    train(CONFIG, dataset, out=finished, eval_dataset=evaluation)
    assert (finished / "config.yaml").read_text() == written


@pytest.mark.parametrize("lose", [lambda path: path.write_bytes(b""), Path.unlink])
def test_without_its_configuration_the_last_epoch_tells_it(finished, dataset, lose):
    lose(finished / "config.yaml")
    other = dataclasses.replace(CONFIG, lr=0.1)
    with pytest.raises(LogitbankError, match=r"another configuration \(lr is 0.05 there, 0.1 here"):
        train(other, dataset, out=finished)
    assert not (finished / "config.yaml.damaged").exists()


def test_a_configuration_edited_by_hand_is_not_what_trained(finished, dataset):
    path = finished / "config.yaml"
    path.write_text(path.read_text().replace("lr: 0.05", "lr: 0.1"))
    with pytest.raises(LogitbankError, match=r"another configuration \(lr is 0.05 there, 0.1 here"):
        train(dataclasses.replace(CONFIG, lr=0.1), dataset, out=finished)


def without_configuration(path: Path) -> None:
    """Write `last.pt` as runs had it before it held their configuration as well."""
    content = torch.load(path / "last.pt", weights_only=True)
    del content["training"]["config"]
    torch.save(content, path / "last.pt")


def test_an_older_run_goes_on(run, dataset, undisturbed):
    without_configuration(run)
    assert_as_undisturbed(train(CONFIG, dataset, out=run), undisturbed)


def test_an_older_run_without_its_configuration_is_refused(run, dataset):
    without_configuration(run)
    (run / "config.yaml").write_text("")
    with pytest.raises(LogitbankError, match="its last.pt does not say with which configuration"):
        train(CONFIG, dataset, out=run)
    assert (run / "config.yaml").read_bytes() == b""


def test_a_first_attempt_whose_configuration_is_torn_begins(tmp_path, dataset):
    (tmp_path / "config.yaml").write_bytes(bytes(300))
    (tmp_path / "events.out.tfevents.1.host.2").touch()
    config = small_config(student=PLAIN_NET, epochs=1)
    assert len(train(config, dataset, out=tmp_path).metrics) == 1
    assert weights_of(tmp_path)
