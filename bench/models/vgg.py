"""VGG-16 and VGG-19 with batch norm (Simonyan and Zisserman, 2015) as used on CIFAR.

One linear layer behind the convolutions instead of three. The net halves a 32x32 image five times;
on a smaller one the pools that would leave nothing are left out, so any input size fits.
"""

from __future__ import annotations

from torch import nn

from bench.models.init import initialise

NAMES = ("vgg16_bn", "vgg19_bn")
WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = {"vgg16_bn": (2, 2, 3, 3, 3), "vgg19_bn": (2, 2, 4, 4, 4)}  # convolutions before each pool


def build(name: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A VGG with a fresh initialisation (`bench.models.init`). `shape`: (C, H, W) of any size."""
    before, side = shape[0], min(shape[1:])
    layers: list[nn.Module] = []
    for width, depth in zip(WIDTHS, DEPTHS[name], strict=True):
        for _ in range(depth):
            # batch norm has the bias
            layers += [
                nn.Conv2d(before, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            before = width
        if side > 1:
            layers.append(nn.MaxPool2d(2))
            side //= 2
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes)]
    return initialise(nn.Sequential(*layers))
