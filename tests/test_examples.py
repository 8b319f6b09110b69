"""The examples are what they say: whole programs that learn what the store says of these pixels."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import zarr
from PIL import Image
from torch import nn

from logitbank import ViewDataset
from logitbank.pipeline.datasets import open_dataset
from logitbank.pipeline.models import LoadedModel
from logitbank.pipeline.models.normalisation import HALF
from logitbank.pipeline.views.draws import view_of_epoch
from logitbank.stores.errors import PixelError
from tests.pipeline.student.student_examples import small_store
from tests.reference import views as reference

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SAMPLES, VIEWS, EPOCHS, BATCH, SEED = 180, 3, 4, 30, 5
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class LinearTeacher(nn.Module):
    """A linear map of every fourth pixel: right on most digits, wrong on some."""

    def __init__(self, images: np.ndarray, targets: np.ndarray) -> None:
        super().__init__()
        pixels = self._inputs(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1)
        wanted = 10 * F.one_hot(torch.from_numpy(targets).long(), 10).float()
        ridge = 5 * torch.eye(pixels.shape[1])
        self.weight = nn.Parameter(torch.linalg.solve(pixels.T @ pixels + ridge, pixels.T @ wanted))

    def _inputs(self, images: torch.Tensor) -> torch.Tensor:
        pixels = images[:, 0, 2::4, 2::4].flatten(1)
        return torch.cat([pixels, torch.ones(len(pixels), 1)], dim=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self._inputs(images) @ self.weight


def linear_teacher(digits: Any) -> LoadedModel:
    module = LinearTeacher(digits.images, digits.targets).eval().requires_grad_(False)
    return LoadedModel(module, "import:tests:linear", 10, 32, HALF)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Three views of the first 180 digits."""
    digits = open_dataset("digits").head(SAMPLES)
    path = tmp_path_factory.mktemp("digits") / "raw.zarr"
    augmentation = "cifar-weak:pad=2,flip=no"
    small_store(path, digits, linear_teacher(digits), augmentation=augmentation, views=VIEWS)
    return path


class Recorder:
    """Takes note of what a program's network and losses are called with, step by step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images: list[torch.Tensor] = []
        self.targets: list[torch.Tensor] = []
        self.teacher: list[torch.Tensor] = []
        self._handle = nn.modules.module.register_module_forward_pre_hook(self._forward)
        self._input = torch.empty(0)
        cross_entropy, kl_div = F.cross_entropy, F.kl_div

        def labels_loss(logits: torch.Tensor, target: torch.Tensor, *rest: Any, **more: Any) -> Any:
            self.targets.append(target.clone())
            return cross_entropy(logits, target, *rest, **more)

        def soft_loss(logits: torch.Tensor, target: torch.Tensor, *rest: Any, **more: Any) -> Any:
            assert more["log_target"]
            self.images.append(self._input)
            self.teacher.append(target.exp())
            return kl_div(logits, target, *rest, **more)

        monkeypatch.setattr(F, "cross_entropy", labels_loss)
        monkeypatch.setattr(F, "kl_div", soft_loss)

    def _forward(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        is_batch = module.training and inputs and isinstance(inputs[0], torch.Tensor)
        if is_batch and inputs[0].dim() == 4 and inputs[0].shape[1] == 3:
            self._input = inputs[0].detach().clone()

    def steps(self) -> list[Step]:
        self._handle.remove()
        return [Step(*given) for given in zip(self.images, self.targets, self.teacher, strict=True)]


class Step(NamedTuple):
    """What one training step was given: images, labels, and the teacher's softmax at T = 4."""

    images: torch.Tensor
    targets: torch.Tensor
    teacher: torch.Tensor


def run_example(name: str, monkeypatch: pytest.MonkeyPatch, *words: object) -> list[Step]:
    """Run an example as a program within this process; give what its steps were given."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    recorder = Recorder(monkeypatch)
    try:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    finally:
        steps = recorder.steps()
        monkeypatch.undo()
    return steps


def words_for(store: Path) -> list[object]:
    words: list[object] = ["--store", store, "--dataset-spec", "digits", "--epochs", EPOCHS]
    return [*words, "--batch-size", BATCH, "--seed", SEED, "--workers", 2]


@pytest.fixture(scope="module")
def inputs(store) -> list[torch.Tensor]:
    """What a network is to see of each view, by the plain definitions."""
    digits = open_dataset("digits").head(SAMPLES)
    view_params = zarr.open_group(store, mode="r")["view_params"]
    mean, std = (torch.tensor(three).view(3, 1, 1) for three in (IMAGENET_MEAN, IMAGENET_STD))
    views = []
    for view in range(VIEWS):
        pixels = [
            reference.render("cifar-weak", {"size": 32, "pad": 2}, image, drawn)
            for image, drawn in zip(digits.images, view_params[view], strict=True)
        ]
        scaled = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255
        views.append((scaled - mean) / std)
    return views


def require_taught_by(store: Path, inputs: list[torch.Tensor], steps: list[Step]) -> None:
    """Require each epoch to show its view of every sample, each image with its own soft label."""
    targets = torch.from_numpy(open_dataset("digits").head(SAMPLES).targets)
    logits = zarr.open_group(store, mode="r")["logits"]
    per_epoch = SAMPLES // BATCH
    assert len(steps) == EPOCHS * per_epoch
    for epoch in range(EPOCHS):
        view = view_of_epoch(epoch, VIEWS, SEED)
        teacher = torch.from_numpy(np.asarray(logits[view], np.float32) / 4).softmax(dim=1)
        seen: list[int] = []
        for step in steps[epoch * per_epoch : (epoch + 1) * per_epoch]:
            distance = (inputs[view][None] - step.images[:, None]).abs().amax((2, 3, 4))
            nearest, samples = distance.min(dim=1)
            assert (nearest < 1e-5).all(), "pixels of another view"
            assert torch.equal(step.targets, targets[samples].long())
            torch.testing.assert_close(step.teacher, teacher[samples], rtol=1e-5, atol=1e-7)
            seen += samples.tolist()
        assert sorted(seen) == list(range(SAMPLES))
        assert seen != sorted(seen)


def printed_losses(printed: str) -> list[float]:
    lines = re.findall(r"^epoch (\d+): view (\d+), loss ([\d.]+)$", printed, re.MULTILINE)
    views = [view_of_epoch(epoch, VIEWS, SEED) for epoch in range(EPOCHS)]
    assert [(int(epoch), int(view)) for epoch, view, _ in lines] == list(enumerate(views))
    return [float(loss) for *_, loss in lines]


def test_plain_torch(store, inputs, monkeypatch, capsys):
    steps = run_example("plain_torch.py", monkeypatch, *words_for(store), "--device", "cpu")
    require_taught_by(store, inputs, steps)
    losses = printed_losses(capsys.readouterr().out)
    assert losses[-1] < 0.7 * losses[0]


def test_timm_loop(store, inputs, monkeypatch, capsys):
    pytest.importorskip("timm")
    words = [*words_for(store), "--img-size", 32, "--device", "cpu"]
    steps = run_example("timm_loop.py", monkeypatch, *words)
    require_taught_by(store, inputs, steps)
    losses = printed_losses(capsys.readouterr().out)
    assert losses[-1] < 0.7 * losses[0]


def test_at_most_fifteen_lines_of_timms_script_change():
    text = (EXAMPLES / "timm_loop.py").read_text()
    lines = text[text.index("from __future__") :].splitlines()
    marked = [line for line in lines if line.endswith("  # logitbank")]
    assert 0 < len(marked) <= 15
    new = re.compile(r"logitbank|SoftLabels|ViewDataset|kd_loss|\b(slab|soft|rows?|store)\b")
    # Unmarked are only what stands in for timm's own dataset, comments, and the report.
    code = [line.strip() for line in lines if line not in marked and new.search(line)]
    assert [line.partition("(")[0] for line in code if not line.startswith("#")] == [
        "from logitbank.pipeline.datasets import open_dataset",
        "parser = argparse.ArgumentParser",
        "parser.add_argument",
        "dataset_train = open_dataset",
        "print",
    ]


def test_lightning_module(store, inputs, monkeypatch, capsys, tmp_path):
    pytest.importorskip("lightning")
    words = [*words_for(store), "--accelerator", "cpu", "--out", tmp_path]
    first = run_example("lightning_module.py", monkeypatch, *words, "--epochs", 2)
    checkpoints = list(tmp_path.rglob("*.ckpt"))
    assert len(checkpoints) == 1
    rest = run_example("lightning_module.py", monkeypatch, *words, "--resume", checkpoints[0])
    require_taught_by(store, inputs, first + rest)
    losses = printed_losses(capsys.readouterr().out)
    assert losses[-1] < 0.7 * losses[0]


def test_a_folder_as_timm_opens_it_by_torchvision_is_in_the_stores_order(store, tmp_path):
    """timm's own reader sorts 10.png after 9.png; the pixels' checksums stop that order."""
    create_dataset = pytest.importorskip("timm.data").create_dataset
    digits = open_dataset("digits").head(SAMPLES)
    for sample, (image, target) in enumerate(zip(digits.images, digits.targets, strict=True)):
        path = tmp_path / "train" / str(target) / f"{sample}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    folder = open_dataset(f"imagenet:{tmp_path}")
    soft = small_store(
        tmp_path / "raw.zarr",
        folder,
        linear_teacher(digits),
        augmentation="imagenet-weak:size=32",
        views=2,
    )
    root = str(tmp_path)
    same = create_dataset("torch/image_folder", root=root, split="train")
    ours, theirs = (ViewDataset(each, soft.augmentation) for each in (folder, same))
    for row in (0, 100, SAMPLES, 2 * SAMPLES - 1):
        assert torch.equal(theirs[row][0], ours[row][0])
        assert theirs[row][1:] == ours[row][1:]
    other = ViewDataset(create_dataset("", root=root, split="train"), soft.augmentation)
    with pytest.raises(PixelError, match="its pixels are not those the teacher saw"):
        other.__getitems__(range(SAMPLES))


def test_the_first_program_of_the_page_runs_as_it_stands(store, monkeypatch, capsys, tmp_path):
    """But for its dataset: a plain list of the images that the store holds."""
    page = (EXAMPLES.parent / "docs" / "your-own-loop.md").read_text()
    program = re.search(r"```python\n(import torch\n.*?)```", page, re.DOTALL).group(1)
    assert program.count('open_dataset("digits")') == 1
    digits = open_dataset("digits").head(SAMPLES)
    images = [
        (Image.fromarray(image), int(target))
        for image, target in zip(digits.images, digits.targets, strict=True)
    ]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sort.zarr").symlink_to(store)
    torch.manual_seed(SEED)
    exec(program.replace('open_dataset("digits")', "images"), {"images": images})
    printed = capsys.readouterr().out
    losses = re.findall(r"^epoch \d: view \d, loss ([\d.]+)$", printed, re.MULTILINE)
    assert len(losses) == 2
    assert float(losses[1]) < float(losses[0])
