"""The file of docs/your-own-loss.md works as the page says."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from logitbank.jobs.cli import main
from logitbank.jobs.reproduce import recipe as recipe_module
from logitbank.jobs.reproduce.recipe import Recipe
from logitbank.pipeline.losses import ViewLogits, loss_class
from logitbank.pipeline.student import TrainConfig, loss_of, train
from logitbank.stores.errors import UsageError
from tests.pipeline.losses.loss_examples import random_batch
from tests.pipeline.student.student_examples import (
    same_weights,
    small_config,
    small_dataset,
    small_store,
    small_teacher,
    timeless,
)
from tests.pipeline.student.student_nets import DROPOUT_NET

PAGE = Path(__file__).resolve().parents[1] / "docs/your-own-loss.md"
NAME, CHOOSY = "import:dist_loss:DIST", "import:choosy_loss:Choosy"

OTHERS = """
from dataclasses import dataclass
from logitbank.pipeline.losses import KD, Loss


def function(inputs):
    pass


class NotALoss:
    pass


@dataclass(frozen=True)
class Nothing(Loss):
    pass


class Undecorated(Loss):
    weight: float = 1.0

    def terms(self, inputs):
        return {}


@dataclass(frozen=True)
class NoDefault(Loss):
    weight: float

    def terms(self, inputs):
        return {}
"""


@pytest.fixture(autouse=True)
def _page_file(tmp_path, monkeypatch):
    code, refusal = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "dist_loss.py").write_text(code)
    choosy = f"from dist_loss import DIST\n\nclass Choosy(DIST):\n{refusal}"
    (tmp_path / "choosy_loss.py").write_text(choosy)
    (tmp_path / "others.py").write_text(OTHERS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("dist_loss", "choosy_loss", "others"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def dataset():
    return small_dataset()


@pytest.fixture(scope="module")
def soft(tmp_path_factory, dataset):
    folder = tmp_path_factory.mktemp("loss")
    return small_store(folder / "raw.zarr", dataset, small_teacher(folder))


def dist_recipe(**changes) -> Recipe:
    settings = {
        "dataset": "digits",
        "teacher": "cifar:resnet20",
        "student": "cifar:resnet8",
        "loss": NAME,
        "weak": "cifar-weak",
        "views": 2,
        "epochs": 4,
        "batch_size": 8,
        "lr": 0.1,
        "milestones": (2,),
        "weight_decay": 0.0,
    }
    return Recipe(**(settings | changes))


def test_its_terms_are_the_papers():
    student, teacher, labels = random_batch(2)
    found = loss_class(NAME)()(ViewLogits(student), ViewLogits(teacher), labels, 0)
    p, q = (
        np.exp(z.numpy() / 4) / np.exp(z.numpy() / 4).sum(axis=1, keepdims=True)
        for z in (student, teacher)
    )
    relations = {
        "loss_inter": [np.corrcoef(*rows)[0, 1] for rows in zip(p, q, strict=True)],
        "loss_intra": [np.corrcoef(*rows)[0, 1] for rows in zip(p.T, q.T, strict=True)],
    }
    for name, correlations in relations.items():
        expected = 16 * np.mean([1 - each for each in correlations])
        assert found[name].item() == pytest.approx(expected, rel=1e-4)
    ce = torch.nn.functional.cross_entropy(student, labels).item()
    whole = ce + 2 * found["loss_inter"].item() + 2 * found["loss_intra"].item()
    assert found["loss"].item() == pytest.approx(whole, rel=1e-5)


def test_a_run_writes_its_settings_down_and_goes_on(tmp_path, dataset, soft):
    class StoppedError(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if step == 4:  # within the second epoch
            raise StoppedError

    config = small_config(
        student=DROPOUT_NET, loss=NAME, temperature=2.0, loss_settings={"inter": "1"}
    )
    whole = train(config, dataset, out=tmp_path / "whole", soft_labels=soft)
    assert {"loss_inter", "loss_intra"} <= set(whole.last)
    with pytest.raises(StoppedError):
        train(config, dataset, out=tmp_path / "run", soft_labels=soft, on_step=stop)
    again = train(config, dataset, out=tmp_path / "run", soft_labels=soft)
    assert timeless(again.metrics) == timeless(whole.metrics)
    assert same_weights(again.out, whole.out)
    sys.modules.pop("dist_loss")
    written = TrainConfig.from_yaml((tmp_path / "run/config.yaml").read_text(), "config.yaml")
    assert "dist_loss" not in sys.modules, "reading a run imports nothing"
    assert written.loss == NAME
    assert (written.ce_weight, written.temperature) == (1.0, 2.0)
    assert written.loss_settings == {"inter": 1.0, "intra": 2.0}
    assert dataclasses.asdict(loss_of(written)) == {
        "ce": 1.0, "inter": 1.0, "intra": 2.0, "temperature": 2.0,
    }  # fmt: skip


def test_the_command_takes_it(tmp_path, capsys):
    teacher = small_teacher(tmp_path, classes=10).spec
    words = ["train", "--dataset", "digits", "--student", "cifar:resnet8", "--limit", "64"]
    words += ["--epochs", "1", "--loss", NAME, "--loss-setting", "inter=1", "--out", "run"]
    assert main(words) == 2
    assert f"--loss {NAME} needs --soft-labels STORE" in capsys.readouterr().err
    assert main([*words, "--teacher", teacher]) == 0
    assert f"loss: {NAME}\n" in Path("run/config.yaml").read_text()
    assert "loss_intra" in Path("run/metrics.jsonl").read_text()


HALF = "tells apart what half precision makes equal: cache with --encoding float32"
SORTED = "learns the teacher's own order of classes, which sort changes: take a raw store"


def test_it_refuses_stores_before_any_work(tmp_path, dataset, soft):
    teacher = small_teacher(tmp_path)
    half = small_store(tmp_path / "half.zarr", dataset, teacher, encoding="float16")
    config, out = small_config(loss=CHOOSY, epochs=1), tmp_path / "run"
    for store, reason in ((half, HALF), (soft.corrected("sort"), SORTED)):
        with pytest.raises(UsageError) as error:
            train(config, dataset, out=out, soft_labels=store)
        assert str(error.value) == f"{store.store.where}: --loss {CHOOSY} {reason}"
        assert not out.exists()
    train(config, dataset, out=tmp_path / "raw", soft_labels=soft.corrected("swap"))
    # What a store holds of logits is not read beside a teacher in the loop.
    train(config, dataset, out=tmp_path / "loop", soft_labels=half, teacher=teacher)


def test_it_refuses_stores_in_a_recipe(monkeypatch):
    with pytest.raises(UsageError, match=f"corrections: none: --loss {CHOOSY} {HALF}"):
        dist_recipe(loss=CHOOSY)
    monkeypatch.setattr(recipe_module, "DEFAULT_ENCODING", "float32")
    with pytest.raises(UsageError, match=f"corrections: sort: --loss {CHOOSY} {SORTED}"):
        dist_recipe(loss=CHOOSY)
    assert dist_recipe(loss=CHOOSY, corrections=("none", "swap")).loss == CHOOSY


def test_a_recipe_takes_it():
    recipe = dist_recipe(loss_settings={"intra": 0.5})
    assert recipe.loss_of_run(4).intra == 0.5
    assert recipe.needs_soft_labels


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("others:function", "others:function is not a loss: it must be a class that extends"),
        ("others:NotALoss", "import:others:NotALoss is not a loss"),
        ("others:Nothing", "computes nothing: it needs a method `terms`"),
        ("others:Undecorated", "annotates weight, .*write @dataclass"),
        ("others:NoDefault", "weight is missing; a setting needs a default"),
        ("others:Absent", "'Absent'"),
        ("dist_loss:DISTS", "did you mean 'DIST'"),
        ("nowhere:Loss", "no module 'nowhere'"),
        ("dist_loss", "is not of the form import:package.module"),
    ],
)
def test_what_is_no_loss_is_one_line(tmp_path, dataset, soft, name, message):
    config = small_config(loss=f"import:{name}")
    with pytest.raises(UsageError, match=message) as caught:
        train(config, dataset, out=tmp_path / "run", soft_labels=soft)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_unknown_settings_and_values_are_refused(tmp_path, dataset, soft):
    for settings, message in (
        ({"intre": 1}, f"unknown setting of {NAME} 'intre': did you mean 'int"),
        ({"inter": -1}, f"{NAME}: inter must be finite and 0 or more, not -1"),
    ):
        config = small_config(loss=NAME, loss_settings=settings)
        with pytest.raises(UsageError, match=message):
            train(config, dataset, out=tmp_path / "run", soft_labels=soft)


def test_the_loop_of_your_own_takes_a_published_loss():
    """The second program of docs/your-own-loop.md, with its names filled in."""
    page = (PAGE.parent / "your-own-loop.md").read_text()
    (program,) = re.findall(r"```python\n(from logitbank.pipeline.losses.*?)```", page, re.DOTALL)
    logits, teacher, targets = random_batch(2)
    names = {
        "student": torch.nn.Identity(),
        "images": logits.requires_grad_(),
        "slab": [teacher],
        "row": 0,
        "targets": targets,
        "epoch": 0,
    }
    exec(program, names)
    assert names["criterion"].beta == 6
    assert set(names["terms"]) == {"loss", "loss_ce", "loss_kd", "loss_tckd", "loss_nckd"}
    assert torch.isfinite(logits.grad).all()


def test_the_page_names_what_a_loss_can_say():
    rows = re.findall(r"^\| `(\w+)", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == 11
    assert all(hasattr(loss_class("kd"), name) for name in rows)
