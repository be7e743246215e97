"""Pre-activation residual nets (He et al., ECCV 2016): the ResNet-18 of SAP and the WRN-28-8.

WRN: Zagoruyko and Komodakis (2016), depth 28 is four blocks in each of three stages; no dropout.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from bench.models.init import initialise

NAMES = ("preact_resnet18", "wrn28_8")
STAGES = {  # name: (channels of the stem, widths, blocks in each stage)
    "preact_resnet18": (64, (64, 128, 256, 512), 2),
    "wrn28_8": (16, (128, 256, 512), 4),
}


def build(name: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """A pre-activation net, initialised by `bench.models.init`; takes any input size."""
    stem, widths, blocks = STAGES[name]
    return initialise(PreActResNet(shape[0], stem, widths, blocks, classes))


class PreActBlock(nn.Module):
    """Batch norm and ReLU before each 3x3 convolution; a 1x1 shortcut where the shape changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        """From `before` to `after` channels; the first convolution has the stride."""
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or before != after:
            self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`x`: (B, before, H, W) -> (B, after, H / stride, W / stride)."""
        active = F.relu(self.bn1(x))
        residual: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        # the projection sees the activated input, as in the original code; the identity sees x
        return residual + (x if self.shortcut is None else self.shortcut(active))


class PreActResNet(nn.Module):
    """3x3 stem, stages of pre-activation blocks, a last batch norm and ReLU, mean, linear."""

    def __init__(
        self, channels: int, stem: int, widths: tuple[int, ...], blocks: int, classes: int
    ) -> None:
        """`stem`: channels behind the first convolution; `widths`: of each stage of blocks."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, stem, 3, padding=1, bias=False)
        stages: list[nn.Module] = []
        before = stem
        for stage, width in enumerate(widths):
            first = PreActBlock(before, width, stride=1 if stage == 0 else 2)
            stages.append(
                nn.Sequential(first, *(PreActBlock(width, width, 1) for _ in range(blocks - 1)))
            )
            before = width
        self.stages = nn.Sequential(*stages)
        self.bn = nn.BatchNorm2d(before)
        self.fc = nn.Linear(before, classes)

    def forward(self, images: Tensor) -> Tensor:
        """`images`: (B, C, H, W) -> logits (B, classes)."""
        features = F.relu(self.bn(self.stages(self.conv1(images))))
        logits: Tensor = self.fc(features.mean((2, 3)))
        return logits
