"""An LSTM that reads an image row by row, as in sequential MNIST, and classifies its last state."""

from __future__ import annotations

from torch import Tensor, nn

NAMES = ("lstm",)
HIDDEN = 128


def build(name: str, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """One layer of 128 units with torch's default initialisation; takes any input size."""
    return RowLSTM(shape, classes)


class RowLSTM(nn.Module):
    """A step is a row of the image with all its channels: H steps of C * W features."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        """`shape`: (C, H, W) of the images."""
        super().__init__()
        channels, _, width = shape
        self.lstm = nn.LSTM(channels * width, HIDDEN, batch_first=True)
        self.fc = nn.Linear(HIDDEN, classes)

    def forward(self, images: Tensor) -> Tensor:
        """`images`: (B, C, H, W) -> logits (B, classes)."""
        rows = images.transpose(1, 2).flatten(2)
        states, _ = self.lstm(rows)
        logits: Tensor = self.fc(states[:, -1])
        return logits
