"""Models by spec: what is built, what its inputs are, and what is refused."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision

from logitbank.pipeline.models.checkpoints import DESCRIPTION
from logitbank.pipeline.models.digest import state_sha256
from logitbank.pipeline.models.loading import (
    LoadedModel,
    absolute_model_spec,
    evaluation_mode,
    load_model,
)
from logitbank.pipeline.models.normalisation import CIFAR, HALF, IMAGENET, Normalisation
from logitbank.stores.errors import LogitbankError, UsageError


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    """A module of the user's in the current folder, which is not on the path."""
    (tmp_path / "my_nets").mkdir()
    (tmp_path / "my_nets" / "tiny.py").write_text(
        textwrap.dedent(
            """
            import torch
            from torch import nn

            def net(classes=4):
                return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes))

            def plain():
                return net()

            def pair():
                return net(), dict(input_size=(3, 48, 48), mean=(0.1, 0.2, 0.3), std=(1, 1, 2))

            def side():
                return net(), dict(input_size=24, resize=30, interpolation="bicubic")

            def typo():
                return net(), dict(input_sise=24)

            def half():
                return net(), dict(mean=(0, 0, 0))

            def oblong():
                return net(), dict(input_size=(3, 24, 32))

            def nothing():
                return None

            def broken():
                raise RuntimeError("no weights today")

            def images():
                return nn.Conv2d(3, 4, 1)

            constant = 3
            """
        )
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    yield
    for name in [each for each in sys.modules if each.partition(".")[0] == "my_nets"]:
        del sys.modules[name]


def saved(model: LoadedModel, path, **description) -> str:
    """Save as a run does; gives the path as a spec has it."""
    about = model.description() | description
    torch.save({"model": model.module.state_dict(), DESCRIPTION: about}, path)
    return f"@{path}"


def test_a_cifar_student_takes_the_datasets_inputs():
    model = load_model("cifar:resnet8", classes=10, normalisation=CIFAR, input_size=32)
    assert (model.classes, model.input_size, model.normalisation) == (10, 32, CIFAR)
    assert model.module.training
    assert all(each.requires_grad for each in model.module.parameters())


def test_defaults_where_nobody_says_anything():
    model = load_model("cifar:resnet8", classes=10)
    assert (model.input_size, model.normalisation) == (32, HALF)
    assert load_model("torchvision:resnet18", classes=5).input_size == 224
    assert load_model("imagenet:MobileNetV1", classes=5).input_size == 224


def test_a_teacher_comes_in_evaluation_mode_without_gradients(tmp_path):
    student = load_model("cifar:resnet8", classes=10)
    spec = "cifar:resnet8" + saved(student, tmp_path / "w.pt")
    teacher = load_model(spec, classes=10, pretrained=True)
    assert not any(part.training for part in teacher.module.modules())
    assert not any(each.requires_grad for each in teacher.module.parameters())
    assert state_sha256(teacher.module) == state_sha256(student.module)
    assert teacher.architecture == "cifar:resnet8"


@pytest.mark.parametrize(
    "spec", ["cifar:resnet8", "imagenet:MobileNetV1", "torchvision:resnet18", "timm:resnet18"]
)
def test_a_teacher_without_weights_is_refused(spec):
    with pytest.raises(UsageError, match=f"a teacher needs weights: {spec}@FILE"):
        load_model(spec, classes=10, pretrained=True)


def test_a_checkpoint_of_ours_wins_over_the_datasets_defaults(tmp_path):
    own = Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    student = load_model("cifar:resnet8", classes=10, normalisation=own, input_size=28)
    spec = "cifar:resnet8" + saved(student, tmp_path / "w.pt", resize=40, interpolation="bicubic")
    model = load_model(spec, classes=10, normalisation=CIFAR, input_size=32)
    assert (model.normalisation, model.input_size) == (own, 28)
    assert (model.resize, model.interpolation) == (40, "bicubic")


def test_other_peoples_checkpoints_leave_the_datasets_defaults(tmp_path):
    state = load_model("cifar:resnet8", classes=10).module.state_dict()
    torch.save({"model": state, "mean": "of something else"}, tmp_path / "w.pth")
    spec = f"cifar:resnet8@{tmp_path / 'w.pth'}"
    model = load_model(spec, classes=10, normalisation=CIFAR, input_size=32)
    assert (model.normalisation, model.input_size) == (CIFAR, 32)


def test_a_checkpoint_of_another_class_count_names_both(tmp_path):
    spec = "cifar:resnet8" + saved(load_model("cifar:resnet8", classes=100), tmp_path / "w.pt")
    with pytest.raises(LogitbankError, match="has 100 classes, expected 10"):
        load_model(spec, classes=10)


def test_torchvision_weights_bring_their_own_inputs_and_accuracy(monkeypatch):
    state = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state)
    model = load_model(
        "torchvision:resnet18@DEFAULT", classes=1000, normalisation=CIFAR, pretrained=True
    )
    assert (model.input_size, model.resize, model.interpolation) == (224, 256, "bilinear")
    assert model.normalisation == IMAGENET
    assert model.expected_top1 == pytest.approx(69.758)
    assert torch.equal(model.module.state_dict()["conv1.weight"], state["conv1.weight"])


def test_torchvision_weights_are_known_by_each_name(monkeypatch):
    state = torchvision.models.resnet50().state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state)
    model = load_model("torchvision:resnet50@IMAGENET1K_V2", classes=1000, pretrained=True)
    assert (model.resize, model.expected_top1) == (232, pytest.approx(80.858))


def test_torchvision_weights_of_another_class_count_name_both():
    with pytest.raises(LogitbankError, match="resnet18@IMAGENET1K_V1 has 1000 classes, 10 are"):
        load_model("torchvision:resnet18@DEFAULT", classes=10, pretrained=True)


def test_weights_that_cant_be_downloaded_say_what_to_do(monkeypatch):
    def refuse(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(LogitbankError, match="fetch https://download.pytorch.org/.*give its path"):
        load_model("torchvision:resnet18@DEFAULT", classes=1000, pretrained=True)


def test_a_torchvision_network_takes_weights_from_a_file(tmp_path):
    source = torchvision.models.resnet18(num_classes=6)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    model = load_model(f"torchvision:resnet18@{tmp_path / 'w.pth'}", classes=6, pretrained=True)
    assert state_sha256(model.module) == state_sha256(source)
    assert model.expected_top1 is None


def test_torchvision_networks_with_auxiliary_heads_give_logits_alone():
    model = load_model("torchvision:googlenet", classes=5, input_size=64)
    assert isinstance(model.module.train()(torch.zeros(2, 3, 64, 64)), torch.Tensor)


def test_mobilenet_v1_of_the_imagenet_pair_is_the_published_size_and_loads_its_checkpoint(tmp_path):
    source = load_model("imagenet:MobileNetV1", classes=1000, input_size=64)
    assert sum(each.numel() for each in source.module.parameters()) == 4_231_976
    state = {f"module.{key}": value for key, value in source.module.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    spec = f"imagenet:MobileNetV1@{tmp_path / 'w.pth'}"
    model = load_model(spec, classes=1000, normalisation=IMAGENET, pretrained=True)
    assert state_sha256(model.module) == state_sha256(source.module)
    assert (model.input_size, model.normalisation) == (224, IMAGENET)


def test_an_imported_factory_gives_a_module(user_module):
    model = load_model("import:my_nets.tiny:plain", classes=4, normalisation=CIFAR, pretrained=True)
    assert (model.input_size, model.normalisation) == (224, CIFAR)
    assert not model.module.training


def test_an_imported_factory_says_what_its_inputs_are(user_module):
    model = load_model("import:my_nets.tiny:pair", classes=4, normalisation=CIFAR, input_size=32)
    assert model.input_size == 48
    assert model.normalisation == Normalisation((0.1, 0.2, 0.3), (1, 1, 2))
    model = load_model("import:my_nets.tiny:side", classes=4, normalisation=CIFAR, input_size=32)
    assert (model.input_size, model.normalisation) == (24, CIFAR)
    assert (model.resize, model.interpolation) == (30, "bicubic")


def test_an_imported_network_takes_weights_from_a_file(user_module, tmp_path):
    source = load_model("import:my_nets.tiny:pair", classes=4)
    spec = "import:my_nets.tiny:plain" + saved(source, tmp_path / "w.pt")
    model = load_model(spec, classes=4)
    assert state_sha256(model.module) == state_sha256(source.module)
    assert (model.input_size, model.normalisation) == (48, source.normalisation)


@pytest.mark.parametrize(
    ("factory", "error", "message"),
    [
        ("typo", UsageError, "'input_sise': did you mean 'input_size'"),
        ("half", UsageError, "has only one of mean and std"),
        ("oblong", UsageError, r"takes images of size \(3, 24, 32\)"),
        ("nothing", UsageError, "returned a NoneType: expected a torch.nn.Module"),
        ("broken", LogitbankError, "failed: RuntimeError: no weights today"),
        ("images", LogitbankError, "not one row of logits"),
        ("plane", UsageError, "'plane': did you mean 'plain'"),
        ("constant", UsageError, "is a int, not a function"),
    ],
)
def test_an_imported_factory_that_is_wrong_is_refused(user_module, factory, error, message):
    with pytest.raises(error, match=message):
        load_model(f"import:my_nets.tiny:{factory}", classes=4)


def test_an_imported_network_of_another_class_count_names_both(user_module):
    with pytest.raises(LogitbankError, match="tiny:plain has 4 classes, expected 10"):
        load_model("import:my_nets.tiny:plain", classes=10)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cifar:resnet8x5", "unknown CIFAR network 'resnet8x5'.*resnet8x4"),
        ("torchvision:resnet35", "unknown torchvision model 'resnet35': did you mean 'resn"),
        ("torchvision:resnet18@IMAGENET1K_V3", "did you mean 'IMAGENET1K_V1'"),
        ("torchvison:resnet18", "unknown kind of model 'torchvison': did you mean 'torchvision'"),
        ("timmm:resnet18", "unknown kind of model 'timmm': did you mean 'timm'"),
        ("resnet8x4", "did you mean cifar:resnet8x4"),
        ("vgg13", "did you mean cifar:vgg13"),
        ("MobileNetV1", "did you mean imagenet:MobileNetV1"),
        ("imagenet:MobileNetV3", "unknown ImageNet network .*did you mean 'MobileNetV1'"),
        ("cifar:", "KIND:NAME"),
        ("cifar:resnet8@", "KIND:NAME"),
        ("", "KIND:NAME"),
        ("import:nothing_of_that_name:net", "no module 'nothing_of_that_name'"),
        ("import:json", "import:package.module:factory"),
    ],
)
def test_a_spec_that_cant_be_meant_is_a_usage_error(spec, message):
    with pytest.raises(UsageError, match=message) as caught:
        load_model(spec, classes=10)
    assert len(str(caught.value)) < 300


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(LogitbankError, match="no checkpoint at .*w.pt"):
        load_model(f"cifar:resnet8@{tmp_path / 'w.pt'}", classes=10)


def test_images_a_network_cant_take_are_an_error():
    with pytest.raises(LogitbankError, match="vit_b_16 can't take images of 30 × 30"):
        load_model("torchvision:vit_b_16", classes=10, input_size=30)


def test_evaluation_mode_puts_each_part_back():
    module = load_model("cifar:resnet8", classes=10).module.train()
    module.bn1.eval()
    with evaluation_mode(module):
        assert not any(part.training for part in module.modules())
    assert [part for part in module.modules() if not part.training] == [module.bn1]


def test_a_path_may_begin_at_home_and_name_a_part(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    raw, other = (load_model("cifar:resnet8", classes=10).module.state_dict() for _ in range(2))
    torch.save({"model": raw, "model_ema": other}, tmp_path / "w.pth")
    model = load_model("cifar:resnet8@~/w.pth#raw", classes=10, pretrained=True)
    assert torch.equal(model.module.state_dict()["fc.weight"], raw["fc.weight"])
    assert model.architecture == "cifar:resnet8"
    absolute = absolute_model_spec("cifar:resnet8@~/w.pth#raw")
    assert absolute == f"cifar:resnet8@{tmp_path / 'w.pth'}#raw"
    with pytest.raises(LogitbankError, match=f"no checkpoint at {tmp_path / 'gone.pth'}"):
        load_model("cifar:resnet8@~/gone.pth", classes=10)


def test_a_file_whose_name_has_a_part_s_mark_in_it_wins(tmp_path):
    model = load_model("cifar:resnet8", classes=10)
    spec = "cifar:resnet8" + saved(model, tmp_path / "w#ema")
    assert state_sha256(load_model(spec, classes=10).module) == state_sha256(model.module)
    assert absolute_model_spec(spec) == spec
    assert absolute_model_spec("cifar:resnet8@gone.pth#ema") == "cifar:resnet8@gone.pth#ema"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ("net().bfloat16()", "its weights are bfloat16 .*return it in float32, module.float()"),
        ("net().half()", "its weights are float16 "),
        ("net().double()", "its weights are float64 "),
        ("Rounding()", "returns logits of bfloat16, expected float32"),
        ("net().to('meta')", "on the meta device, whose weights have no values"),
        ("torch.jit.freeze(torch.jit.script(net().eval()))", "returned a frozen TorchScript"),
        ("exported()", "can't take images of 224 × 224: NotImplementedError"),
    ],
)
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_an_imported_network_that_is_no_float32_module_is_refused(user_module, made, message):
    Path("my_nets/other.py").write_text(
        "import torch\n"
        "from my_nets.tiny import net\n"
        "class Rounding(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.net = net()\n"
        "    def forward(self, x):\n"
        "        return self.net(x).bfloat16()\n"
        "def exported():\n"
        "    images = (torch.zeros(1, 3, 224, 224),)\n"
        "    return torch.export.export(net().eval(), images).module()\n"
        f"def factory():\n    return {made}\n"
    )
    with pytest.raises(LogitbankError, match=message) as caught:
        load_model("import:my_nets.other:factory", classes=4, pretrained=True)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_an_imported_network_may_be_of_torchscript(user_module):
    Path("my_nets/scripted.py").write_text(
        "import torch\n"
        "from my_nets.tiny import net\n"
        "def factory():\n    torch.manual_seed(0)\n    return torch.jit.script(net())\n"
    )
    model = load_model("import:my_nets.scripted:factory", classes=4, pretrained=True)
    assert not any(each.requires_grad for each in model.module.parameters())
    torch.manual_seed(0)
    plain = load_model("import:my_nets.tiny:plain", classes=4, pretrained=True)
    assert state_sha256(model.module) == state_sha256(plain.module)
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(model.module(images), plain.module(images))
