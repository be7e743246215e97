"""LeNet-300-100 and LeNet-5 (LeCun et al., 1998) in the sizes that the pruning literature uses.

LeNet-5 has the shape of Caffe's example (20 and 50 kernels of 5x5, 500 hidden units; 430,500
weights on MNIST), with a ReLU after every hidden layer. Caffe's own file has one only after the
hidden linear layer.
"""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from bench.models import ModelError
from bench.models.init import initialise

NAMES = ("lenet300", "lenet5")


def build(name: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A LeNet, initialised by `bench.models.init`."""
    net = LeNet300 if name == "lenet300" else LeNet5
    return initialise(net(shape, classes))


class LeNet300(nn.Module):
    """pixels-300-100-classes with ReLU; takes any input."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        """`shape`: (C, H, W) of the images."""
        super().__init__()
        self.fc1 = nn.Linear(prod(shape), 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, classes)

    def forward(self, images: Tensor) -> Tensor:
        """`images`: (B, C, H, W) -> logits (B, classes)."""
        hidden = self.fc1(images.flatten(1)).relu()
        logits: Tensor = self.fc3(self.fc2(hidden).relu())
        return logits


class LeNet5(nn.Module):
    """Two 5x5 convolutions without padding, each with a 2x2 max-pool, then two linear layers."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        """`shape`: (C, H, W) of the images."""
        super().__init__()
        channels, *size = shape
        height, width = (((side - 4) // 2 - 4) // 2 for side in size)
        if min(height, width) < 1:
            raise ModelError(
                f"lenet5 needs images of at least 16x16 pixels, these are {size[0]}x{size[1]}: "
                "its two 5x5 convolutions without padding and two 2x2 pools leave nothing; "
                "lenet300 takes any size"
            )
        self.conv1 = nn.Conv2d(channels, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(50 * height * width, 500)
        self.fc2 = nn.Linear(500, classes)

    def forward(self, images: Tensor) -> Tensor:
        """`images`: (B, C, H, W) -> logits (B, classes)."""
        features = self.pool(self.conv1(images).relu())
        features = self.pool(self.conv2(features).relu())
        logits: Tensor = self.fc2(self.fc1(features.flatten(1)).relu())
        return logits
