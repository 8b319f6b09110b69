"""Train a student from a store in a plain torch loop.

    logitbank demo
    python examples/plain_torch.py --store runs/demo/sort.zarr --dataset-spec digits

The store provides the views and the teacher's logits for them; the images are from your dataset.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision.models import get_model
from torchvision.transforms import v2

from logitbank import RowSampler, SoftLabels, ViewDataset
from logitbank.pipeline.datasets import open_dataset
from logitbank.pipeline.losses import kd_loss

NORMALISE = v2.Compose(
    [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)


def train_epoch(
    student: nn.Module,
    optimiser: torch.optim.Optimizer,
    batches: Iterable[Any],
    slab: Any,
    device: torch.device,
) -> float:
    """Train on one view of every sample, and return the mean loss of the steps."""
    student.train()
    losses = []
    for images, targets, row in batches:
        images, targets = images.to(device), targets.to(device)
        teacher_logits = slab[row]  # (B, C) float32, on the device already
        logits = student(images)
        soft_loss = kd_loss(logits, teacher_logits, temperature=4.0)
        loss = 0.1 * F.cross_entropy(logits, targets) + 0.9 * soft_loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return float(torch.stack(losses).mean())


def main() -> None:
    options = parse_options()
    torch.manual_seed(options.seed)
    device = torch.device(options.device)

    soft = SoftLabels.open(options.store)
    # Any dataset whose items are (Pillow image, target), without its own transform, will do:
    # torchvision.datasets.ImageFolder("train"). A store made with --limit has the first samples.
    dataset = open_dataset(options.dataset_spec, soft.manifest.dataset.split).head(soft.samples)
    data = ViewDataset(dataset, soft.augmentation, transform=NORMALISE)

    # One loader, and so one set of workers, for all epochs: the sampler sends them the rows.
    rows = RowSampler(soft.augmentation, seed=options.seed)
    loader = DataLoader(
        data,
        batch_size=options.batch_size,
        sampler=rows,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
        pin_memory=device.type == "cuda",
    )
    student = get_model(options.student, num_classes=soft.classes).to(device)
    optimiser = torch.optim.SGD(student.parameters(), lr=options.lr, momentum=0.9)

    for epoch in range(options.epochs):
        slab = soft.epoch(epoch, seed=options.seed, device=device)  # the next one is read meanwhile
        rows.set_epoch(epoch)
        loss = train_epoch(student, optimiser, loader, slab, device)
        print(f"epoch {epoch}: view {slab.view}, loss {loss:.4f}")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a student from a store.")
    parser.add_argument("--store", required=True, help="raw or corrected")
    parser.add_argument("--dataset-spec", required=True, help="as logitbank's --dataset")
    parser.add_argument("--student", default="resnet18", help="a torchvision model")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and views")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
