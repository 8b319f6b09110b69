"""What is no function of the image, or gives no logits, is refused before the first block."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from logitbank.pipeline.inference import forward_logits
from logitbank.pipeline.models.loading import LoadedModel
from logitbank.pipeline.models.normalisation import HALF
from logitbank.pipeline.teacher import CacheSettings, require_sound_teacher
from logitbank.pipeline.teacher.soundness import require_logits
from logitbank.stores.errors import LogitbankError, UsageError

CLASSES, SIDE = 4, 8


class Net(nn.Module):
    """A small network, and what a test does with its (B, C) logits."""

    def __init__(self, change=lambda logits: logits) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.pool, self.head = nn.AdaptiveAvgPool2d(4), nn.Linear(48, CLASSES)
        self.change = change

    def forward(self, images):
        return self.change(self.head(self.pool(images).flatten(1)) - 1)


class BatchNormOf(Net):
    """Normalises its images first, by a layer that a test gives."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.norm = layer

    def forward(self, images):
        return super().forward(self.norm(images))


class NeverEvaluated(BatchNormOf):
    """A wrapper whose `eval()` reaches nothing inside."""

    def train(self, mode=True):
        return self


class Stateful(Net):
    """Adds a little more at each call."""

    calls = 0

    def forward(self, images):
        self.calls += 1
        return super().forward(images) + 0.01 * self.calls


class Counting(Net):
    """Counts its calls in a buffer, and says the same each time."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, images):
        self.calls += 1
        return super().forward(images)


def attention(logits):
    """Each row becomes a mean of all rows, weighted by likeness."""
    return (logits @ logits.T).softmax(dim=1) @ logits


def placed(logits):
    return logits + 0.1 * (torch.arange(len(logits))[:, None] % 3)


def by_batch_size(logits):
    return logits * (1.02 if len(logits) < 8 else 1)


def model(module: nn.Module) -> LoadedModel:
    return LoadedModel(module, "import:mine:net", CLASSES, SIDE, HALF)


def pixels(count=6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, SIDE, SIDE, 3), dtype=torch.uint8, generator=generator)


def tried(module: nn.Module, *, images=6, batch_size=16, **changes) -> None:
    settings = CacheSettings(views=1, batch_size=batch_size, **changes)
    require_sound_teacher(model(module), pixels(images), settings)


@pytest.mark.parametrize("images", [1, 2, 6])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 16])
def test_a_function_of_the_image_passes(images, batch_size):
    tried(Net(), images=images, batch_size=batch_size)


def test_batch_norm_in_evaluation_mode_passes():
    tried(BatchNormOf(nn.BatchNorm2d(3)))


def test_a_constant_is_a_function_of_the_image():
    """So are the logits of a network whose last layer begins at zero."""
    tried(Net(lambda logits: logits * 0))


CASES = {
    "dropout": (Net(functional.dropout), "other logits each time it is run"),
    "noise": (Net(lambda y: y + 0.01 * torch.randn_like(y)), "other logits each time it is run"),
    "memory": (Stateful(), "other logits each time it is run"),
    "attention over the batch": (Net(attention), "beside other images"),
    "mean of the batch": (Net(lambda y: y.mean(0, keepdim=True).expand_as(y)), "beside other"),
    "centred by the batch": (Net(lambda y: y - y.mean(0)), "beside other images"),
    "no running statistics": (
        BatchNormOf(nn.BatchNorm2d(3, track_running_stats=False)),
        "beside other images",
    ),
    "eval() without effect": (NeverEvaluated(nn.BatchNorm2d(3)), "beside other images"),
    "place": (Net(placed), "in another place of the batch"),
    "size of the batch": (Net(by_batch_size), "in batches of 3 than of 16"),
    "a counter": (Counting(), "changes its own weights or buffers"),
    "not a number": (Net(lambda y: y / 0 * 0), "not finite"),
    "softmax": (Net(lambda y: y.softmax(1)), "probabilities that sum to one"),
    "sigmoid": (Net(torch.sigmoid), "numbers from 0 to 1, as from a sigmoid"),
    "log_softmax": (Net(lambda y: y.log_softmax(1)), "log-probabilities"),
    "one-hot": (
        Net(lambda y: functional.one_hot(y.argmax(1), CLASSES).float()),
        "zeros and ones, as from a decision",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_other_kind_is_refused_with_its_cause(name):
    module, cause = CASES[name]
    with pytest.raises(LogitbankError, match=cause) as refused:
        tried(module)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith(("import:mine:net ", "the logits of sample"))


def test_two_figures_show_by_how_much_it_differs():
    with pytest.raises(LogitbankError, match=r"class \d for sample \d was -?[\d.]+, then -?[\d.]+"):
        tried(Net(functional.dropout))


@pytest.mark.parametrize("name", ["softmax", "sigmoid", "log_softmax", "one-hot"])
def test_probabilities_that_are_meant_pass(name):
    tried(CASES[name][0], accept=("probabilities",))


@pytest.mark.parametrize(
    "rows",
    [
        [[8, 0, 0], [0, 8, 0]],
        [[0, 0, 0], [0, 0, 0]],
        [[0.2, 0.3, -0.1]],
        [[-1, -2, -3]],
        [[3, 1, 0]],
    ],
)
def test_logits_are_no_probabilities(rows):
    require_logits("import:mine:net", np.float32(rows))


def test_what_is_meant_is_named_rightly():
    with pytest.raises(UsageError, match="did you mean 'probabilities'"):
        CacheSettings(views=1, accept=("probabilites",))


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (lambda y: y.mean(0, keepdim=True), r"returns \(1, 4\) for 4 images, expected \(4, 4\)"),
        (lambda y: y[0], r"returns \(4,\) for 4 images"),
        (lambda y: y[:, :, None], r"returns \(4, 4, 1\) for 4 images"),
        (lambda y: {"logits": y}, "returns dict for 4 images"),
        (lambda y: y.argmax(1, keepdim=True).expand_as(y), "returns logits of torch.int64"),
    ],
)
def test_a_row_for_each_image_or_none(output, says):
    """Torch would spread a single row over all images of the batch in silence."""
    with pytest.raises(LogitbankError, match=says):
        forward_logits(model(Net(output)), pixels(), batch_size=4, device="cpu")
