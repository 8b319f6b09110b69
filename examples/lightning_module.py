"""Train a student from a store with Lightning (lightning >= 2).

    pip install lightning
    logitbank demo
    python examples/lightning_module.py --store runs/demo/sort.zarr --dataset-spec digits

Lightning owns the loop, so the two things that change with an epoch are updated in its hooks: the
rows by the sampler's `set_epoch`, the slab in `on_train_epoch_start`. If they ever got out of step,
the slab would refuse the rows.
"""

from __future__ import annotations

import argparse
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
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


class DistilledStudent(L.LightningModule):
    """A student that learns from a store's soft labels and from the labels."""

    def __init__(self, soft: SoftLabels, data: ViewDataset, options: argparse.Namespace) -> None:
        super().__init__()
        self.student = get_model(options.student, num_classes=soft.classes)
        self.soft, self.data, self.options = soft, data, options

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.student.parameters(), lr=self.options.lr, momentum=0.9)

    def train_dataloader(self) -> DataLoader[Any]:
        rows = RowSampler(self.soft.augmentation, seed=self.options.seed)
        # Workers ask for rows as soon as the loader is iterated, which Lightning does before any
        # on_train_epoch_start; and in a resumed run before it sets the sampler's epoch.
        progress = self.trainer.fit_loop.epoch_progress.current
        rows.set_epoch(progress.processed)  # type: ignore[attr-defined]
        return DataLoader(
            self.data,
            batch_size=self.options.batch_size,
            sampler=rows,
            num_workers=self.options.workers,
            persistent_workers=self.options.workers > 0,
            pin_memory=self.device.type == "cuda",
        )

    def on_train_start(self) -> None:
        self.on_train_epoch_start()  # Not called for an epoch that is resumed in the middle.

    def on_train_epoch_start(self) -> None:
        epoch, seed = self.current_epoch, self.options.seed
        self.slab = self.soft.epoch(epoch, seed=seed, device=self.device)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images, targets, row = batch
        logits = self.student(images)
        soft_loss = kd_loss(logits, self.slab[row], temperature=4.0)
        loss = 0.1 * F.cross_entropy(logits, targets) + 0.9 * soft_loss
        self.log("loss", loss, on_step=False, on_epoch=True, batch_size=len(row), sync_dist=True)
        return loss

    def on_train_epoch_end(self) -> None:
        loss = self.trainer.callback_metrics["loss"]
        self.print(f"epoch {self.current_epoch}: view {self.slab.view}, loss {loss:.4f}")


def main() -> None:
    options = parse_options()
    L.seed_everything(options.seed, verbose=False)
    soft = SoftLabels.open(options.store)
    # Any dataset whose items are (Pillow image, target), without its own transform, will do:
    # torchvision.datasets.ImageFolder("train"). A store made with --limit has the first samples.
    dataset = open_dataset(options.dataset_spec, soft.manifest.dataset.split).head(soft.samples)
    data = ViewDataset(dataset, soft.augmentation, transform=NORMALISE)
    trainer = L.Trainer(
        max_epochs=options.epochs,
        accelerator=options.accelerator,
        devices=options.devices,
        default_root_dir=options.out,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(DistilledStudent(soft, data, options), ckpt_path=options.resume)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a student from a store with Lightning.")
    parser.add_argument("--store", required=True, help="raw or corrected")
    parser.add_argument("--dataset-spec", required=True, help="as logitbank's --dataset")
    parser.add_argument("--student", default="resnet18", help="a torchvision model")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and views")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--out", default="runs/lightning", help="folder for checkpoints")
    parser.add_argument("--resume", metavar="CKPT", help="a checkpoint to resume from")
    return parser.parse_args()


if __name__ == "__main__":
    main()
