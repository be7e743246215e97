"""Clock and running sums of a training epoch."""

from __future__ import annotations

import time

import torch
from torch import Tensor


class Meter:
    """Sums of one epoch, kept on the device so that reading them is the only synchronisation."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.started = device, now(device)
        self.batches = self.samples = 0
        self.loss_sum = torch.zeros((), device=device, dtype=torch.float64)
        self.right = torch.zeros((), device=device, dtype=torch.int64)

    def add(self, loss: Tensor, outputs: Tensor, labels: Tensor) -> None:
        """Count one batch: mean `loss`, `outputs` (batch, classes), `labels` (batch,)."""
        self.batches += 1
        self.samples += len(labels)
        self.loss_sum += loss.detach() * len(labels)
        self.right += (outputs.detach().argmax(1) == labels).sum()

    def loss(self) -> float:
        """Mean loss per sample, nats."""
        return float(self.loss_sum) / self.samples

    def accuracy(self) -> float:
        """Fraction of the samples that was classified right while training."""
        return int(self.right) / self.samples

    def seconds(self) -> float:
        """Since the meter was made, device work included."""
        return now(self.device) - self.started


def now(device: torch.device) -> float:
    """Seconds on a monotonic clock, after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
