"""timm's networks: what their configurations say of their inputs, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from logitbank.pipeline.models.checkpoints import DESCRIPTION
from logitbank.pipeline.models.digest import state_sha256
from logitbank.pipeline.models.inputs import Inputs
from logitbank.pipeline.models.loading import load_model
from logitbank.pipeline.models.normalisation import CIFAR, HALF, IMAGENET
from logitbank.stores.errors import LogitbankError, UsageError

timm = pytest.importorskip("timm")
save_file = pytest.importorskip("safetensors.torch").save_file


def saved_state(name: str, classes: int, path: Path) -> tuple[torch.nn.Module, str]:
    """A network of random weights, and the path of a file of them as timm's own script saves it."""
    source = timm.create_model(name, num_classes=classes)
    torch.save({"arch": name, "epoch": 3, "state_dict": source.state_dict()}, path)
    return source, str(path)


@pytest.mark.parametrize(
    ("name", "size", "resize", "interpolation", "normalisation"),
    [
        ("test_resnet", 160, 168, "bilinear", HALF),  # a crop of 0.95
        ("resnet18", 224, 235, "bicubic", IMAGENET),
        ("resnet18.tv_in1k", 224, 256, "bilinear", IMAGENET),
        ("vit_tiny_patch16_224", 224, 248, "bicubic", HALF),  # a crop of 0.9
    ],
)
def test_the_configuration_says_what_the_inputs_are(
    name, size, resize, interpolation, normalisation, tmp_path
):
    source, path = saved_state(name, 6, tmp_path / "w.pth")
    spec = f"timm:{name}@{path}"
    model = load_model(spec, classes=6, normalisation=CIFAR, input_size=32, pretrained=True)
    assert (model.input_size, model.resize, model.interpolation) == (size, resize, interpolation)
    assert model.normalisation == normalisation
    assert model.expected_top1 is None
    assert state_sha256(model.module) == state_sha256(source)
    assert not model.module.training


def test_a_file_as_the_hub_has_it_loads(tmp_path):
    source, path = timm.create_model("test_resnet", num_classes=6), tmp_path / "model.safetensors"
    save_file(source.state_dict(), path)
    model = load_model(f"timm:test_resnet@{path}", classes=6, pretrained=True)
    assert state_sha256(model.module) == state_sha256(source)


def test_a_damaged_file_of_the_hubs_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(
        LogitbankError, match=r"model.safetensors is not a checkpoint, or a damaged"
    ):
        load_model(f"timm:test_resnet@{path}", classes=6)
    with pytest.raises(LogitbankError, match=r"no checkpoint at .*gone.safetensors: no such file"):
        load_model(f"cifar:resnet8@{tmp_path / 'gone.safetensors'}", classes=6)


def test_without_safetensors_the_error_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(LogitbankError, match="pip install safetensors"):
        load_model(f"cifar:resnet8@{path}", classes=6)


def test_a_fresh_network_takes_the_datasets_size_and_the_configurations_normalisation():
    model = load_model("timm:test_resnet", classes=6, normalisation=CIFAR, input_size=32)
    assert (model.input_size, model.normalisation) == (32, HALF)
    assert model.resize is None  # 168 pixels belong to crops of 160
    model = load_model("timm:test_resnet", classes=6)
    assert (model.input_size, model.resize, model.classes) == (160, 168, 6)


def test_a_fresh_network_of_one_size_keeps_it():
    assert load_model("timm:test_vit", classes=6, input_size=32).input_size == 160


def test_a_fresh_network_is_drawn_from_torchs_generator():
    def fresh() -> str:
        torch.manual_seed(3)
        return state_sha256(load_model("timm:test_resnet", classes=6, input_size=32).module)

    assert fresh() == fresh()


def test_a_checkpoint_of_ours_wins_over_the_configuration(tmp_path):
    student = load_model("timm:test_resnet", classes=6, input_size=32)
    content = {"model": student.module.state_dict(), DESCRIPTION: student.description()}
    torch.save(content, tmp_path / "best.pt")
    model = load_model(f"timm:test_resnet@{tmp_path / 'best.pt'}", classes=6, pretrained=True)
    assert (model.input_size, model.resize) == (32, None)
    assert model.normalisation == student.normalisation


def test_a_size_to_resize_to_is_filled_in_only_for_the_same_crop():
    config = Inputs(input_size=224, resize=235, interpolation="bicubic")
    assert Inputs(input_size=32).or_else(config) == Inputs(32, interpolation="bicubic")
    assert Inputs(input_size=224).or_else(config) == config
    assert Inputs().or_else(config) == config
    assert Inputs(resize=40).or_else(config).resize == 40


@pytest.fixture
def hub(monkeypatch) -> list[str]:
    """A hub that has random weights for every network; it gives the names it was asked for."""
    asked: list[str] = []

    def load(model_id, **_):
        asked.append(model_id)
        torch.manual_seed(5)
        return timm.create_model(model_id.removeprefix("timm/").partition(".")[0]).state_dict()

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", load)
    monkeypatch.setattr("timm.models._builder.has_hf_hub", lambda **_: True)
    return asked


@pytest.mark.parametrize("name", ["resnet18", "resnet18.tv_in1k"])
def test_published_weights_come_by_their_tag(hub, name):
    model = load_model(f"timm:{name}@tv_in1k", classes=1000, input_size=32, pretrained=True)
    assert hub == ["timm/resnet18.tv_in1k"]
    assert (model.input_size, model.resize, model.interpolation) == (224, 256, "bilinear")
    torch.manual_seed(5)
    assert state_sha256(model.module) == state_sha256(timm.create_model("resnet18"))


def test_nothing_is_fetched_unless_a_tag_says_so(hub, tmp_path):
    _, path = saved_state("test_resnet", 6, tmp_path / "w.pth")
    load_model("timm:test_resnet", classes=6, input_size=32)
    load_model(f"timm:test_resnet.r160_in1k@{path}", classes=6)
    with pytest.raises(LogitbankError, match="resnet18@a1_in1k has 1000 classes, expected 6"):
        load_model("timm:resnet18@a1_in1k", classes=6, pretrained=True)
    assert not hub


def test_weights_that_cant_be_downloaded_say_what_to_do(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network\nand a long story")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", refuse)
    message = (
        r"\(no network\): fetch its file of weights from "
        r"https://huggingface.co/timm/resnet18.a1_in1k and give its path, timm:resnet18.a1_in1k@F"
    )
    with pytest.raises(LogitbankError, match=message):
        load_model("timm:resnet18@a1_in1k", classes=1000, pretrained=True)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:resnet19", "unknown timm model 'resnet19': did you mean 'resnet1"),
        ("timm:resnet18.a1_in1k", "timm:resnet18@a1_in1k is the published network, timm:resnet18"),
        ("timm:resnet18.a1_in2k@w.pth", "unknown tag of timm:resnet18 'a1_in2k': did you mean 'a1"),
        ("timm:resnet18@a1_in2k", "unknown weights or file for timm:resnet18 'a1_in2k': did you"),
        ("timm:resnet18.tv_in1k@a1_in1k", "names two weights: write timm:resnet18@a1_in1k"),
    ],
)
def test_a_spec_that_cant_be_meant_is_a_usage_error(spec, message):
    with pytest.raises(UsageError, match=message) as caught:
        load_model(spec, classes=1000)
    assert len(str(caught.value)) < 300


def test_a_teacher_without_weights_is_told_of_both_kinds():
    with pytest.raises(UsageError, match="timm:resnet18@FILE or timm:resnet18@NAME, not"):
        load_model("timm:resnet18", classes=1000, pretrained=True)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    _, path = saved_state("test_resnet", 6, tmp_path / "w.pth")
    with pytest.raises(LogitbankError, match="is not a checkpoint of timm:resnet18: missing"):
        load_model(f"timm:resnet18@{path}", classes=6)


def test_without_timm_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r"pip install 'logitbank\[timm\]'"):
        load_model("timm:resnet18", classes=6)


def test_timm_is_imported_only_when_asked_for():
    code = (
        "import sys; from logitbank.pipeline.models import load_model; "
        "load_model('cifar:resnet8', classes=10); assert 'timm' not in sys.modules"
    )
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
