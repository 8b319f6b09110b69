"""Networks for the tests of the student stage, by `import:` spec."""

from __future__ import annotations

from torch import nn

from tests.pipeline.student.student_examples import CLASSES

DROPOUT_NET = "import:tests.pipeline.student.student_nets:dropout_net"
PLAIN_NET = "import:tests.pipeline.student.student_nets:plain_net"


def dropout_net() -> tuple[nn.Module, dict]:
    """Small and quick, and it draws from torch's generator at every step."""
    layers = (
        nn.Conv2d(3, 8, 3, stride=4),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, CLASSES),
    )
    return nn.Sequential(*layers), {"input_size": 32}


def plain_net() -> tuple[nn.Module, dict]:
    """Without batch norm and dropout: an image's gradient doesn't depend on its neighbours."""
    layers = (
        nn.Conv2d(3, 8, 3, stride=4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, CLASSES),
    )
    return nn.Sequential(*layers), {"input_size": 32}
