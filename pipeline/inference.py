"""A network's logits: one forward pass for caching, teachers in the loop and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from logitbank.pipeline.models.loading import LoadedModel, evaluation_mode
from logitbank.pipeline.models.normalisation import normalise
from logitbank.stores.errors import LogitbankError


def forward_logits(
    model: LoadedModel,
    pixels: torch.Tensor,
    *,
    batch_size: int,
    device: str | torch.device,
    amp: bool = False,
    tf32: bool = False,
    channels_last: bool = False,
) -> torch.Tensor:
    """Compute the logits of images, in evaluation mode and without gradients.

    Every batch has `batch_size` rows: a partial one is filled up by repeating its rows. Libraries
    choose their kernels by the shape of a batch, so a row's last bits would otherwise depend on how
    many rows are beside it. Given the same batch size, device, memory format and precision, a row
    is the same bits whatever its neighbours and its place.

    Args:
        model: moved to the device (and memory format), and left in the mode it is in.
        pixels: (B, S, S, 3) uint8 on any device, S the model's input size.
        batch_size: rows of each pass.
        device: where to compute.
        amp: mixed precision, float16 on CUDA and bfloat16 on a CPU.
        tf32: whether CUDA may compute float32 in TF32.
        channels_last: whether to compute in that memory format.

    Returns:
        (B, C) float32 on the device.

    Raises:
        LogitbankError: the images are not of the model's size, a batch doesn't fit the device, or
            the model doesn't return a row of logits for each image.
    """
    _require_size(model, pixels)
    device = torch.device(device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    module = model.module.to(device).to(memory_format=layout)
    logits = torch.empty((len(pixels), model.classes), dtype=torch.float32, device=device)
    with (
        torch.inference_mode(),
        evaluation_mode(module),
        _precision(tf32),
        torch.autocast(device.type, enabled=amp),
    ):
        for start in range(0, len(pixels), batch_size):
            batch = pixels[start : start + batch_size]
            images = normalise(_filled(batch, batch_size).to(device), model.normalisation)
            output = _output(model, module, images.contiguous(memory_format=layout))
            logits[start : start + len(batch)] = output[: len(batch)]
    return logits


def _output(model: LoadedModel, module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Run the network once; a batch that its device can't hold is a LogitbankError."""
    try:
        output = module(images)
    except torch.OutOfMemoryError as error:
        raise LogitbankError(
            f"{model.spec} with batches of {len(images)} does not fit the memory of "
            f"{images.device}: lower --batch-size"
        ) from error
    _require_rows(model, output, len(images))
    return output


def _require_size(model: LoadedModel, pixels: torch.Tensor) -> None:
    if pixels.shape[1:] != (model.input_size, model.input_size, 3):
        raise LogitbankError(
            f"{model.spec} takes images of {model.input_size} × {model.input_size}, not of "
            f"{pixels.shape[1]} × {pixels.shape[2]}"
        )


def _require_rows(model: LoadedModel, output: object, rows: int) -> None:
    """Check that there is a row for each image: torch would silently broadcast a single one."""
    wanted = (rows, model.classes)
    if not isinstance(output, torch.Tensor) or tuple(output.shape) != wanted:
        found = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise LogitbankError(
            f"{model.spec} returns {found} for {rows} images, expected {wanted}: a row of logits "
            "for each"
        )
    if not output.is_floating_point():
        raise LogitbankError(
            f"{model.spec} returns logits of {output.dtype}, not of floating point"
        )


@contextmanager
def _precision(tf32: bool) -> Iterator[None]:
    """Fix the precision of CUDA's libraries, whatever the caller's, and restore it afterwards."""
    matmul = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)


def _filled(batch: torch.Tensor, batch_size: int) -> torch.Tensor:
    """Repeat a partial batch's rows until there are `batch_size`."""
    if len(batch) == batch_size:
        return batch
    return batch[torch.arange(batch_size, device=batch.device) % len(batch)]
