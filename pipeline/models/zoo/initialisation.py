"""How the released networks draw their first weights."""

from __future__ import annotations

from torch import nn


def initialise_convolutions(network: nn.Module) -> None:
    """Draw each convolution's weights from N(0, 2 / fan-out), and set its bias to zero.

    He et al., arXiv 1502.01852, equation 10 for the backward pass. The fan-out is
    outputs × kernel height × kernel width, whatever the groups, as in the released code.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def initialise_classifier(layer: nn.Linear) -> None:
    """Draw a last layer's weights from N(0, 0.01²), and set its bias to zero (VGG, MobileNetV2)."""
    nn.init.normal_(layer.weight, 0, 0.01)
    nn.init.zeros_(layer.bias)
