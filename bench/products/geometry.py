"""What a 2-D convolution does to sizes and places, whatever its weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Geometry:
    """Of a convolution; pairs are (high, wide)."""

    channels: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    def places(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the output for an input of this size."""
        high, wide = (
            (size + 2 * pad - step * (taps - 1) - 1) // jump + 1
            for size, taps, jump, pad, step in zip(
                (height, width), self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
        return high, wide


def geometry(layer: nn.Module) -> Geometry:
    """Of a linear layer that of a 1x1 convolution."""
    if isinstance(layer, nn.Linear):
        one = (1, 1)
        return Geometry(layer.in_features, layer.out_features, one, one, (0, 0), one, 1)
    assert isinstance(layer, nn.Conv2d)
    assert not isinstance(layer.padding, str)
    kernel, stride, padding, dilation = (
        (int(pair[0]), int(pair[1]))
        for pair in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    )
    return Geometry(
        layer.in_channels, layer.out_channels, kernel, stride, padding, dilation, layer.groups
    )
