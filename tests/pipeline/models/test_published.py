"""Published weights by two routes: their file given by path, and their name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
import torchvision

from logitbank.pipeline.models import LoadedModel, load_model, state_sha256
from logitbank.pipeline.models.loading import TRANSFORMS
from logitbank.pipeline.models.published import identify
from logitbank.pipeline.models.torchvision_models import current_parameter_name
from logitbank.stores.errors import LogitbankError

State = dict[str, torch.Tensor]


def published_state(name: str) -> State:
    """Random weights with the names that the published file has."""
    torch.manual_seed(4)
    options = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
    return torchvision.models.get_model(name, **options).state_dict()


def published_path(name: str, folder: Path) -> Path:
    weights = torchvision.models.get_model_weights(name).DEFAULT
    return folder / weights.url.rpartition("/")[2]


def about(model: LoadedModel) -> tuple[object, ...]:
    return (
        state_sha256(model.module),
        model.architecture,
        model.input_size,
        model.resize,
        model.interpolation,
        model.normalisation,
        model.expected_top1,
    )


@pytest.mark.parametrize(
    "name",
    ["googlenet", "inception_v3", "mnasnet0_5", "mobilenet_v3_small", "shufflenet_v2_x0_5"],
)
def test_a_published_file_by_path_is_what_its_name_gives(name, tmp_path, monkeypatch):
    path = published_path(name, tmp_path)
    torch.save(published_state(name), path)
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *_, **__: torch.load(path)
    )
    by_name = load_model(f"torchvision:{name}@DEFAULT", classes=1000, pretrained=True)
    by_path = load_model(f"torchvision:{name}@{path}", classes=1000, pretrained=True)
    assert about(by_path) == about(by_name)
    assert by_path.expected_top1 is not None
    images = torch.randn(1, 3, by_name.input_size, by_name.input_size)
    with torch.inference_mode():
        assert torch.equal(by_path.module(images), by_name.module(images))


def test_a_file_that_is_published_by_its_name_alone_is_told_of(tmp_path, caplog):
    path = published_path("shufflenet_v2_x0_5", tmp_path)
    torch.save(published_state("shufflenet_v2_x0_5"), path)
    model = load_model(f"torchvision:shufflenet_v2_x0_5@{path}", classes=1000, pretrained=True)
    assert (model.expected_top1, model.required_top1) == (pytest.approx(60.552), None)
    assert "has the name of the published weights of torchvision:shufflenet_v2_x0_5@" in caplog.text
    assert "top-1 of 60.55% is not required of it" in caplog.text


def test_a_published_file_of_another_name_is_known_by_its_content(tmp_path):
    path = tmp_path / "teacher.pth"
    path.write_bytes(b"weights")
    start = hashlib.sha256(b"weights").hexdigest()[:8]
    urls = {"V1": "https://there/net-0123abcd.pth", "V2": f"https://there/net-{start}.pth"}
    found = identify(path, urls)
    assert found is not None
    assert (found.key, found.is_original) == ("V2", True)
    # What the content proves is more than what the name says.
    path = path.rename(tmp_path / "net-0123abcd.pth")
    assert identify(path, urls) == found
    path.write_bytes(b"others")
    found = identify(path, urls)
    assert found is not None
    assert (found.key, found.is_original) == ("V1", False)
    assert identify(path.rename(tmp_path / "teacher.pth"), urls) is None


def test_a_published_file_is_known_only_for_the_classes_it_has(tmp_path, caplog):
    path = published_path("shufflenet_v2_x0_5", tmp_path)
    torch.save(torchvision.models.shufflenet_v2_x0_5(num_classes=7).state_dict(), path)
    model = load_model(f"torchvision:shufflenet_v2_x0_5@{path}", classes=7, pretrained=True)
    assert (model.expected_top1, model.resize) == (None, None)
    assert not caplog.records


@pytest.mark.parametrize(
    ("old", "today"),
    [
        ("features.denseblock1.denselayer12.norm.2.bias", ".denselayer12.norm2.bias"),
        ("encoder.layers.encoder_layer_3.mlp.linear_1.weight", ".mlp.0.weight"),
        ("encoder.layers.encoder_layer_3.mlp.linear_2.weight", ".mlp.3.weight"),
        ("layer1.0.conv1.weight", "layer1.0.conv1.weight"),
    ],
)
def test_the_oldest_files_names_are_given_todays(old, today):
    assert current_parameter_name(old).endswith(today)


def test_weights_of_features_alone_are_refused():
    with pytest.raises(LogitbankError, match="has no classes: its weights are for features alone"):
        load_model("torchvision:vgg16@IMAGENET1K_FEATURES", classes=1000)


def test_a_student_of_published_weights_computes_the_same_from_its_checkpoint(tmp_path):
    student = load_model("torchvision:googlenet", classes=3, input_size=64)
    setattr(student.module, TRANSFORMS, True)
    content = {"model": student.module.state_dict(), "logitbank": student.description()}
    torch.save(content, tmp_path / "best.pt")
    again = load_model(f"torchvision:googlenet@{tmp_path / 'best.pt'}", classes=3, pretrained=True)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(again.module(images), student.module.eval()(images))


@pytest.mark.parametrize(
    ("spec", "file", "resize", "words"),
    [
        ("resnet18", "resnet18-f37072fd.pth", 256, "name of the published weights of timm:resnet1"),
        ("resnet18.a1_in1k", "resnet18-f37072fd.pth", 235, "is published as timm:resnet18@tv_in1k"),
        ("resnet18", "mine.pth", 235, ""),
    ],
)
def test_a_file_of_timms_is_prepared_for_as_its_tag(tmp_path, caplog, spec, file, resize, words):
    timm = pytest.importorskip("timm")
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / file)
    model = load_model(f"timm:{spec}@{tmp_path / file}", classes=1000, pretrained=True)
    assert model.resize == resize
    assert words in caplog.text
    assert bool(caplog.records) == bool(words)
