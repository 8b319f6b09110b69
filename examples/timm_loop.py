"""What changes in timm's training script: the lines marked `# logitbank`.

    pip install timm
    logitbank demo
    python examples/timm_loop.py --store runs/demo/sort.zarr --dataset-spec digits --img-size 32

This is an outline of timm 1.0's train.py, with its names, its order and the spelling of its flags;
parts that a small run doesn't need are left out (EMA, mixed precision, distributed set-up,
checkpoints, validation). `--no-aug` and `--no-prefetcher` are always on, Mixup and CutMix off: the
store determines the pixels that the teacher saw, so nothing may change them afterwards, and timm's
prefetcher would drop the row numbers.
"""
# ruff: noqa: A001 - `input` is train.py's name.

from __future__ import annotations

import argparse
import logging
import time
from collections import OrderedDict
from typing import Any

import torch
from timm import utils
from timm.data import create_loader, resolve_data_config
from timm.models import create_model
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from torch import nn
from torch.utils.data import DataLoader

from logitbank import RowSampler, SoftLabels, ViewDataset  # logitbank
from logitbank.pipeline.datasets import open_dataset
from logitbank.pipeline.losses import kd_loss  # logitbank

_logger = logging.getLogger("train")

parser = argparse.ArgumentParser(description="timm's training script, distilling from a store")
parser.add_argument("--store", required=True, help="raw or corrected")  # logitbank
parser.add_argument("--dataset-spec", required=True, help="as logitbank's --dataset")
parser.add_argument("--model", default="resnet10t")
parser.add_argument("--num-classes", type=int, default=10)
parser.add_argument("--img-size", type=int, default=None)
parser.add_argument("-b", "--batch-size", type=int, default=64)
parser.add_argument("-j", "--workers", type=int, default=2)
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--grad-accum-steps", type=int, default=1)
parser.add_argument("--clip-grad", type=float, default=None)
parser.add_argument("--opt", default="sgd")
parser.add_argument("--lr", type=float, default=0.02)
parser.add_argument("--momentum", type=float, default=0.9)
parser.add_argument("--weight-decay", type=float, default=5e-4)
parser.add_argument("--sched", default="cosine")
parser.add_argument("--warmup-epochs", type=int, default=0)
parser.add_argument("--seed", type=int, default=42)
parser.add_argument("--log-interval", type=int, default=50)
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def main() -> None:
    utils.setup_default_logging()
    args = parser.parse_args()
    device = torch.device(args.device)
    utils.random_seed(args.seed, 0)

    soft = SoftLabels.open(args.store)  # logitbank
    model = create_model(args.model, num_classes=args.num_classes).to(device)
    data_config = resolve_data_config(vars(args), model=model)
    optimizer = create_optimizer_v2(model, **optimizer_kwargs(cfg=args))

    # In train.py this is create_dataset, which has the order of imagenet:DIR only with
    # `--dataset torch/image_folder`: timm's own reader sorts files by the numbers in their names.
    dataset_train = open_dataset(args.dataset_spec, soft.manifest.dataset.split).head(soft.samples)
    dataset_train = ViewDataset(dataset_train, soft.augmentation)  # logitbank
    loader_train = create_loader(
        dataset_train,
        input_size=data_config["input_size"],
        batch_size=args.batch_size,
        is_training=True,
        use_prefetcher=False,
        no_aug=True,
        mean=data_config["mean"],
        std=data_config["std"],
        num_workers=args.workers,
        device=device,
    )
    rows = RowSampler(soft.augmentation, seed=args.seed)  # logitbank
    loader_train.batch_sampler.sampler = rows  # logitbank
    train_loss_fn = nn.CrossEntropyLoss().to(device)

    updates_per_epoch = -(-len(loader_train) // args.grad_accum_steps)
    lr_scheduler, num_epochs = create_scheduler_v2(
        optimizer, **scheduler_kwargs(args), updates_per_epoch=updates_per_epoch
    )
    for epoch in range(num_epochs):
        slab = soft.epoch(epoch, seed=args.seed, device=device)  # logitbank
        rows.set_epoch(epoch)  # logitbank
        train_metrics = train_one_epoch(
            epoch,
            model,
            loader_train,
            optimizer,
            train_loss_fn,
            args,
            slab,  # logitbank
            device=device,
            lr_scheduler=lr_scheduler,
        )
        print(f"epoch {epoch}: view {slab.view}, loss {train_metrics['loss']:.4f}")
        if lr_scheduler is not None:
            lr_scheduler.step(epoch + 1, train_metrics["loss"])


def train_one_epoch(
    epoch: int,
    model: nn.Module,
    loader: DataLoader[Any],
    optimizer: torch.optim.Optimizer,
    loss_fn: nn.Module,
    args: argparse.Namespace,
    slab: Any,  # logitbank
    device: torch.device,
    lr_scheduler: Any = None,
) -> OrderedDict[str, float]:
    update_time_m = utils.AverageMeter()
    losses_m = utils.AverageMeter()
    model.train()

    accum_steps = args.grad_accum_steps
    last_accum_steps = len(loader) % accum_steps
    updates_per_epoch = -(-len(loader) // accum_steps)
    num_updates = epoch * updates_per_epoch
    last_batch_idx = len(loader) - 1
    last_batch_idx_to_accum = len(loader) - last_accum_steps

    update_start_time = time.time()
    optimizer.zero_grad()
    for batch_idx, (input, target, row) in enumerate(loader):  # logitbank
        need_update = batch_idx == last_batch_idx or (batch_idx + 1) % accum_steps == 0
        update_idx = batch_idx // accum_steps
        if batch_idx >= last_batch_idx_to_accum:
            accum_steps = last_accum_steps
        input, target = input.to(device), target.to(device)

        output = model(input)
        loss = 0.1 * loss_fn(output, target) + 0.9 * kd_loss(output, slab[row], 4.0)  # logitbank
        if accum_steps > 1:
            loss /= accum_steps
        loss.backward()
        losses_m.update(loss.item() * accum_steps, input.size(0))
        if not need_update:
            continue

        if args.clip_grad is not None:
            utils.dispatch_clip_grad(model.parameters(), value=args.clip_grad)
        optimizer.step()
        optimizer.zero_grad()
        num_updates += 1
        update_time_m.update(time.time() - update_start_time)
        update_start_time = time.time()
        if update_idx % args.log_interval == 0:
            lr = sum(group["lr"] for group in optimizer.param_groups) / len(optimizer.param_groups)
            _logger.info(
                f"Train: {epoch} [{update_idx:>4d}/{updates_per_epoch}]  "
                f"Loss: {losses_m.val:#.3g} ({losses_m.avg:#.3g})  "
                f"Time: {update_time_m.val:.3f}s ({update_time_m.avg:.3f}s)  LR: {lr:.3e}"
            )
        if lr_scheduler is not None:
            lr_scheduler.step_update(num_updates=num_updates, metric=losses_m.avg)
    return OrderedDict([("loss", losses_m.avg)])


if __name__ == "__main__":
    main()
