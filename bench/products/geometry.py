"""What a 2-D convolution does to sizes and places, whatever its weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

CODED = 2**7, 2**8, 2**16
"""What the code of an input (`row of taps << 24 | column << 16 | channels`) has room for."""
LARGEST = 2**31
"""Elements of a tensor that 32-bit offsets reach."""


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

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns of the input between the first and the last tap, both included."""
        high, wide = (
            step * (taps - 1) + 1 for step, taps in zip(self.dilation, self.kernel, strict=True)
        )
        return high, wide

    def uncoded(self, channels: int) -> str:
        """Why taps or `channels` (or blocks of them) are too many for a code; empty if not."""
        size = (*self.reach, channels)
        if all(own <= most for own, most in zip(size, CODED, strict=True)):
            return ""
        return f"its kernel reaches over {size[0]} x {size[1]} places, or it has too many inputs"

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
