"""Residual nets for small images (He et al., 2016): post-activation blocks behind a 3x3 stem.

ResNet-20/32/56 are the paper's CIFAR nets; ResNet-18 is its ImageNet net with the 3x3 stem that
32x32 images need (no stride, no pool); ResNet-8 is one block per stage, for quick runs.

A shortcut that changes its shape is a 1x1 convolution with batch norm (option B). The CIFAR nets of
the paper pad with zeros instead (option A, 0.26 M multiply-adds less): that ties the channels of
one stage to a fixed part of the next stage's, so that no channel could be removed before the last
stage.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from bench.models.init import initialise

NAMES = ("resnet8", "resnet20", "resnet32", "resnet56", "resnet18")
STAGES = {  # name: (widths, blocks in each stage)
    "resnet8": ((16, 32, 64), 1),
    "resnet20": ((16, 32, 64), 3),
    "resnet32": ((16, 32, 64), 5),
    "resnet56": ((16, 32, 64), 9),
    "resnet18": ((64, 128, 256, 512), 2),
}


def build(name: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A residual net with a fresh initialisation (`bench.models.init`); takes any input size."""
    widths, blocks = STAGES[name]
    return initialise(ResNet(shape[0], widths, blocks, classes))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; ReLU after the sum."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        """From `before` to `after` channels; the first convolution has the stride."""
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            projection = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        """`x`: (B, before, H, W) -> (B, after, H / stride, W / stride)."""
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(residual + self.downsample(x))


class ResNet(nn.Module):
    """Stem, stages of `blocks` basic blocks (all but the first halve the image), mean, linear."""

    def __init__(self, channels: int, widths: tuple[int, ...], blocks: int, classes: int) -> None:
        """`channels` of the images; `widths`: channels of each stage of `blocks` blocks."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        stages: list[nn.Module] = []
        before = widths[0]
        for stage, width in enumerate(widths):
            first = BasicBlock(before, width, stride=1 if stage == 0 else 2)
            stages.append(
                nn.Sequential(first, *(BasicBlock(width, width, 1) for _ in range(blocks - 1)))
            )
            before = width
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(before, classes)

    def forward(self, images: Tensor) -> Tensor:
        """`images`: (B, C, H, W) -> logits (B, classes)."""
        features = self.stages(F.relu(self.bn1(self.conv1(images))))
        logits: Tensor = self.fc(features.mean((2, 3)))
        return logits
