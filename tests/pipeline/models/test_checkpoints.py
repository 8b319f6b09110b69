"""Checkpoints: ours, other people's, and what is none."""

from __future__ import annotations

import argparse

import pytest
import torch
from torch import nn

from logitbank.pipeline.models.checkpoints import DESCRIPTION, load_state, read_checkpoint
from logitbank.pipeline.models.digest import state_sha256
from logitbank.pipeline.models.zoo.cifar_resnet import cifar_resnet
from logitbank.stores.errors import LogitbankError


@pytest.fixture
def network() -> nn.Module:
    return cifar_resnet("resnet8", 10)


def prefixed(state: dict) -> dict:
    return {f"module.{key}": value for key, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda state: state, id="bare"),
        pytest.param(lambda state: {"model": state}, id="mdistiller"),
        pytest.param(lambda state: {"state_dict": state, "epoch": 3}, id="torchvision"),
        pytest.param(prefixed, id="bare from DataParallel"),
        pytest.param(lambda state: {"state_dict": prefixed(state)}, id="DataParallel"),
        pytest.param(
            lambda state: {
                "epoch": 240,
                "model": state,
                "best_acc": torch.tensor(79.4),
                "opt": argparse.Namespace(model="resnet8", lr_decay_epochs=[150, 180, 210]),
            },
            id="RepDistiller",
        ),
    ],
)
def test_every_usual_layout_loads(tmp_path, network, wrap):
    torch.save(wrap(network.state_dict()), tmp_path / "w.pth")
    other = cifar_resnet("resnet8", 10)
    assert state_sha256(other) != state_sha256(network)
    load_state(other, read_checkpoint(tmp_path / "w.pth"), "cifar:resnet8")
    assert state_sha256(other) == state_sha256(network)


def test_files_from_before_batches_were_counted_load(tmp_path, network):
    state = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    torch.save({"model": state}, tmp_path / "w.pth")
    other = cifar_resnet("resnet8", 10)
    load_state(other, read_checkpoint(tmp_path / "w.pth"), "cifar:resnet8")
    assert state_sha256(other) == state_sha256(network)


def test_what_a_file_of_ours_says_of_the_network_is_kept(tmp_path, network):
    about = {"spec": "cifar:resnet8", "classes": 10}
    torch.save({"model": network.state_dict(), DESCRIPTION: about}, tmp_path / "w.pt")
    assert read_checkpoint(tmp_path / "w.pt").description == about


def refusal(tmp_path, content, network) -> str:
    torch.save(content, tmp_path / "w.pth")
    before = state_sha256(network)
    with pytest.raises(LogitbankError) as caught:
        load_state(network, read_checkpoint(tmp_path / "w.pth"), "cifar:resnet8")
    assert state_sha256(network) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_number_of_classes_is_said_plainly(tmp_path, network):
    message = refusal(tmp_path, cifar_resnet("resnet8", 100).state_dict(), network)
    assert "is not a checkpoint of cifar:resnet8: it has 100 classes, expected 10" in message


def test_another_architecture_lists_what_differs(tmp_path, network):
    message = refusal(tmp_path, cifar_resnet("resnet8x4", 10).state_dict(), network)
    assert "unexpected layer1.0.downsample.0.weight" in message
    assert "other shapes conv1.weight 32×3×3×3 for 16×3×3×3" in message
    assert "classes" not in message


def test_missing_names_are_listed_a_few_of_them(tmp_path, network):
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("layer")}
    message = refusal(tmp_path, state, network)
    assert "missing layer1.0.conv1.weight, layer1.0.bn1.weight" in message
    assert "more" in message
    assert len(message) < 400


def test_a_file_of_ours_says_what_it_is_of(tmp_path, network):
    other = cifar_resnet("resnet14", 10)
    content = {"model": other.state_dict(), DESCRIPTION: {"spec": "cifar:resnet14"}}
    assert "it was made for cifar:resnet14" in refusal(tmp_path, content, network)


class Surprise:
    """A class of somebody's own in a checkpoint."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "torch.load can't read it"),
        (b"not a checkpoint at all", "torch.load can't read it"),
        (b"PK\x03\x04 the beginning of an archive", "torch.load can't read it"),
        ([1, 2, 3], "it holds a list"),
        ({"epoch": 3, "lr": 0.1}, "no state dict under 'model' or 'state_dict'"),
        ({}, "no state dict"),
        ({"model": {}}, "no state dict"),
        pytest.param({"model": Surprise()}, "holds more than weights", id="an object"),
    ],
    ids=str,
)
def test_what_is_no_checkpoint_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(LogitbankError, match=message) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_checkpoint_is_refused(tmp_path, network):
    torch.save(network.state_dict(), tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LogitbankError, match="damaged"):
        read_checkpoint(tmp_path / "w.pth")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(LogitbankError, match="no such file"):
        read_checkpoint(tmp_path / "w.pth")
    with pytest.raises(LogitbankError, match="a folder"):
        read_checkpoint(tmp_path)


def test_classes_are_allowed_for_the_reading_of_checkpoints_alone(tmp_path, network):
    torch.save({"model": network.state_dict(), "opt": argparse.Namespace()}, tmp_path / "w.pth")
    read_checkpoint(tmp_path / "w.pth")
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def test_the_identity_of_weights_covers_names_shapes_dtypes_and_values():
    def sha(**state: torch.Tensor) -> str:
        module = nn.Module()
        for name, value in state.items():
            module.register_buffer(name, value)
        return state_sha256(module)

    base = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    flipped = base.clone()
    flipped.view(torch.uint8)[0, 0] ^= 1
    variants = [
        sha(a=base),
        sha(b=base),
        sha(a=base.reshape(3, 2)),
        sha(a=base.view(torch.int32)),
        sha(a=flipped),
        sha(a=base, b=base),
    ]
    assert len(set(variants)) == len(variants)
    assert sha(a=base) == sha(a=base.t().contiguous().t())


def test_the_identity_of_weights_is_free_of_the_memory_format(network):
    before = state_sha256(network)
    assert state_sha256(network.to(memory_format=torch.channels_last)) == before
