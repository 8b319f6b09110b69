"""Which state dict of a file is taken: what tools write around it, averages, and what is asked for.

A small network stands for all; each file holds it, and mostly another one, in some arrangement.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from logitbank.pipeline.models.checkpoints import DESCRIPTION, load_state, read_checkpoint
from logitbank.stores.errors import LogitbankError

State = dict[str, torch.Tensor]


def network(seed: int, classes: int = 3) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, classes)]
    return nn.Sequential(nn.Sequential(*layers[:2]), *layers[2:])


def of(module: nn.Module) -> State:
    return dict(module.state_dict())


RAW, EMA = of(network(1)), of(network(2))


def under(prefix: str, state: State = RAW) -> State:
    return {prefix + name: each for name, each in state.items()}


def taken(tmp_path, content: object, part: str | None = None) -> str:
    """Load a file; give which weights were taken."""
    torch.save(content, tmp_path / "w.pth")
    module = network(3)
    load_state(module, read_checkpoint(tmp_path / "w.pth", part), "the network")
    state = module.state_dict()
    for name, expected in (("raw", RAW), ("ema", EMA)):
        if all(torch.equal(state[key], each) for key, each in expected.items()):
            return name
    return "neither"


def averaged(state: State) -> State:
    module = network(3)
    module.load_state_dict(state)
    return of(AveragedModel(nn.DataParallel(module)))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(under("_orig_mod."), id="torch.compile"),
        pytest.param(under("module._orig_mod."), id="DDP of compiled"),
        pytest.param(under("_orig_mod.module."), id="compiled DDP"),
        pytest.param({"state_dict": under("model."), "epoch": 1}, id="Lightning"),
        pytest.param({"state_dict": under("model._orig_mod.module.")}, id="Lightning of compiled"),
        pytest.param(averaged(RAW), id="AveragedModel of DDP"),
        pytest.param({"net": RAW, "acc": torch.tensor(93.2)}, id="net"),
        pytest.param({"model_state_dict": RAW, "optimizer": {"state": {0: {"m": torch.ones(1)}}}}),
        pytest.param({"state": {"weights": {"params": RAW}}}, id="deep"),
        pytest.param({"state_dict_ema": RAW}, id="averages alone"),
        pytest.param(under("backbone.encoder."), id="one prefix of all"),
        pytest.param(RAW | {"total_ops": torch.zeros(1), "0.0.total_params": torch.zeros(1)}),
        pytest.param({k.replace("0.", "0.module.", 1): v for k, v in RAW.items()}, id="inside"),
        pytest.param({"model": RAW, "model_ema": copy.deepcopy(RAW)}, id="both the same"),
        pytest.param({k: v for k, v in RAW.items() if "num_batches" not in k}, id="old"),
    ],
)
def test_what_tools_write_around_a_state_dict_is_taken_off(tmp_path, content, caplog):
    assert taken(tmp_path, content) == "raw"
    assert not caplog.records


class Compiled(nn.Module):
    """Names its parameters as what torch.compile gives does, which takes seconds to import."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._orig_mod = module


@pytest.mark.parametrize("wrap", [nn.DataParallel, Compiled])
def test_a_network_may_be_wrapped_as_well(tmp_path, wrap: Callable[[nn.Module], nn.Module]):
    torch.save({"state_dict": under("model.")}, tmp_path / "w.pth")
    module = wrap(network(3))
    load_state(module, read_checkpoint(tmp_path / "w.pth"), "the network")
    assert all(map(torch.equal, module.state_dict().values(), RAW.values()))


BOTH = [
    pytest.param({"state_dict": RAW, "state_dict_ema": EMA, "epoch": 9}, id="timm"),
    pytest.param({"model": RAW, "model_ema": EMA}, id="DeiT"),
    pytest.param({"model": RAW, "model_ema": averaged(EMA)}, id="torchvision"),
    pytest.param({"model": {"raw": RAW, "ema": EMA}}, id="nested"),
    pytest.param({"state_dict": under("model.") | under("model_ema.module.", EMA)}, id="Lightning"),
    pytest.param(RAW | under("ema.", EMA), id="flat"),
    pytest.param({"averaged_model": EMA, "net": RAW}, id="the average first"),
]


@pytest.mark.parametrize("content", BOTH)
def test_of_raw_and_averaged_weights_the_averaged_are_taken_and_told(tmp_path, content, caplog):
    assert taken(tmp_path, content) == "ema"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    assert "holds raw and averaged weights" in message
    assert f"@{tmp_path / 'w.pth'}#raw takes the others" in message


@pytest.mark.parametrize("content", BOTH)
@pytest.mark.parametrize("part", ["raw", "ema"])
def test_either_can_be_asked_for_without_a_word(tmp_path, content, part, caplog):
    assert taken(tmp_path, content, part) == part
    assert not caplog.records


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("state_dict.student", "raw"),
        ("student", "raw"),
        ("state_dict.teacher", "ema"),
        ("state_dict.module.teacher", "ema"),
    ],
)
def test_a_part_is_named_by_its_keys_and_prefix(tmp_path, part, expected):
    content = {"state_dict": under("module.student.") | under("module.teacher.", EMA)}
    assert taken(tmp_path, content, part) == expected


@pytest.mark.parametrize(
    ("content", "choices"),
    [
        ({"model": RAW, "best_model": EMA}, "#model or @.*#best_model"),
        (under("student.") | under("teacher.", EMA), "#student or @.*#teacher"),
        ({"ema_0.99": RAW, "ema_0.999": EMA}, "#ema_0.99 or @.*#ema_0.999"),
    ],
)
def test_of_others_that_fit_and_differ_one_must_be_chosen(tmp_path, content, choices):
    with pytest.raises(
        LogitbankError, match=f"2 different sets of weights.*choose one, .*{choices}"
    ):
        taken(tmp_path, content)


def test_a_part_that_is_not_there_names_those_that_are(tmp_path):
    with pytest.raises(LogitbankError, match=r"under 'emma': it holds model, model_ema"):
        taken(tmp_path, {"model": RAW, "model_ema": EMA}, "emma")


def test_averages_that_lack_some_of_the_state_are_told_of(tmp_path, caplog):
    half = {name: each for name, each in EMA.items() if "running" not in name}
    assert taken(tmp_path, {"model": RAW, "ema": {"shadow_params": [*half.values()]}}) == "raw"
    assert taken(tmp_path, {"model": RAW, "ema": half}) == "raw"
    assert [each.getMessage().partition(": ")[2][:21] for each in caplog.records] == [
        "its averaged weights "
    ] * 2


def test_what_lies_beside_a_holders_prefix_is_told_of(tmp_path, caplog):
    content = {"state_dict": under("model.") | {"criterion.weight": torch.ones(3)}}
    assert taken(tmp_path, content) == "raw"
    assert "beside it, and left out: criterion.weight" in caplog.text


def test_a_part_of_a_larger_network_is_taken_only_when_asked_for(tmp_path):
    content = under("backbone.") | {"head.weight": torch.ones(3)}
    message = "'backbone' fits, and beside it are head.weight; @.*#backbone takes that part alone"
    with pytest.raises(LogitbankError, match=message):
        taken(tmp_path, content)
    assert taken(tmp_path, content, "backbone") == "raw"


def test_a_larger_network_of_the_same_names_is_refused(tmp_path):
    with pytest.raises(LogitbankError, match=r"unexpected 4.weight$"):
        taken(tmp_path, RAW | {"4.weight": torch.ones(3)})


def test_behind_a_prefix_too_the_number_of_classes_is_said_plainly(tmp_path):
    content = {"state_dict": under("model.", of(network(1, classes=5)))}
    with pytest.raises(LogitbankError, match="it has 5 classes, expected 3"):
        taken(tmp_path, content)


def test_whole_numbers_are_no_weights(tmp_path):
    content = {name: each.to(torch.int8) for name, each in RAW.items()}
    with pytest.raises(LogitbankError, match="not real numbers 0.0.weight int8"):
        taken(tmp_path, content)


def test_a_file_of_ours_is_its_model_unless_a_part_is_asked_for(tmp_path, caplog):
    content = {
        "model": RAW,
        DESCRIPTION: {"spec": "cifar:resnet8"},
        "training": {"state": {"average": EMA}},
    }
    assert taken(tmp_path, content) == "raw"
    assert not caplog.records
    assert taken(tmp_path, content, "training.state.average") == "ema"


def test_an_auxiliary_head_that_the_network_was_built_without_is_no_error(tmp_path):
    content = RAW | {"aux1.weight": torch.ones(3)}
    torch.save(content, tmp_path / "w.pth")
    module = network(3)
    with pytest.raises(LogitbankError, match=r"unexpected aux1.weight"):
        load_state(module, read_checkpoint(tmp_path / "w.pth"), "the network")
    module.aux1 = None
    load_state(module, read_checkpoint(tmp_path / "w.pth"), "the network")
    assert all(map(torch.equal, module.state_dict().values(), RAW.values()))
