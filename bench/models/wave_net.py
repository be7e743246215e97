"""The surrogate of a wave simulator: an encoder-decoder that says how a field goes on.

Two strided convolutions halve the field, two transposed ones bring it back; what the encoder saw
at each size is added to what the decoder makes of it: a wave's fronts do not survive the halving.
No batch norm: the wave equation is linear, and the scale of a field means something. tanh, since
u and -u behave alike, and bounded features keep a prediction that is fed back from growing without
limit.

It predicts the frame and not its change: in one run each of four epochs on `wave32` (batch 16,
Adam, no noise) the error of a step on test was 5.1 % against 6.3 %, and after 20 steps 560 %
against 2500 %. Transposed convolutions keep torch's own initialisation.
"""

from __future__ import annotations

from torch import Tensor, nn

from bench.models import ModelError
from bench.models.init import initialise

NAMES = ("wave_net",)
TASK = "field"
WIDTHS = (16, 32, 64)


def build(name: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The net for inputs of `shape` (frames + 1, H, W), whose last channel is the wave's speed.

    `classes`: the frames that it predicts; it must be 1, so that they can be fed back. Raises
    `ModelError` for more of them, and for a side that cannot be halved twice.
    """
    if classes != 1 or shape[0] < 2:
        raise ModelError(
            f"{name} predicts one frame from frames and a speed; it was asked for {classes} "
            f"outputs of an input with {shape[0]} channels: it needs a data set of fields"
        )
    if shape[1] % 4 or shape[2] % 4:
        raise ModelError(
            f"{name} halves a field twice, so its sides must be multiples of 4, "
            f"these are {shape[1]}x{shape[2]}"
        )
    return initialise(WaveNet(shape[0], WIDTHS))


class WaveNet(nn.Module):
    """3x3 convolutions down (stride 2), 4x4 transposed ones up, 5x5 at full size; tanh."""

    def __init__(self, channels: int, widths: tuple[int, int, int]) -> None:
        """`channels` of the input; `widths`: channels at full, half and quarter size."""
        super().__init__()
        full, half, quarter = widths
        self.stem = nn.Conv2d(channels, full, 5, padding=2)
        self.down1 = nn.Conv2d(full, half, 3, stride=2, padding=1)
        self.down2 = nn.Conv2d(half, quarter, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(quarter, quarter, 3, padding=1)
        self.up2 = nn.ConvTranspose2d(quarter, half, 4, stride=2, padding=1)
        self.up1 = nn.ConvTranspose2d(half, full, 4, stride=2, padding=1)
        self.head = nn.Conv2d(full, 1, 5, padding=2)

    def forward(self, fields: Tensor) -> Tensor:
        """`fields`: (B, frames + 1, H, W), oldest frame first -> the next frame, (B, 1, H, W)."""
        full = self.stem(fields).tanh()
        half = self.down1(full).tanh()
        quarter = self.middle(self.down2(half).tanh()).tanh()
        half = half + self.up2(quarter).tanh()
        full = full + self.up1(half).tanh()
        after: Tensor = self.head(full)
        return after
