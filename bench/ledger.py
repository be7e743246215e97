"""What a run has spent, by phase: epochs, samples and device-seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from bench.spec import Spent

Phase = Literal["pretrain", "score", "prune", "finetune"]


def now(device: torch.device) -> float:
    """Seconds on a monotonic clock, after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@dataclass
class Ledger:
    """Sums of one run."""

    device: torch.device
    spent: dict[Phase, Spent] = field(default_factory=dict)
    inside: float = 0
    """Seconds of `spend` and `free` so far; a training around them does not count them again."""
    uncharged: float = 0
    """Seconds of validation so far, which no method is charged for."""

    def add(self, phase: Phase, epochs: float = 0, samples: int = 0, seconds: float = 0) -> None:
        """Count to `phase`."""
        old = self.spent.get(phase, Spent(phase=phase))
        self.spent[phase] = Spent(
            phase=phase,
            epochs=old.epochs + epochs,
            samples=old.samples + samples,
            seconds=old.seconds + seconds,
        )

    @contextmanager
    def spend(self, phase: Phase) -> Iterator[None]:
        """Count the seconds inside, device work included, to `phase`."""
        start = now(self.device)
        try:
            yield
        finally:
            seconds = now(self.device) - start
            self.add(phase, seconds=seconds)
            self.inside += seconds

    @contextmanager
    def free(self) -> Iterator[None]:
        """Count the seconds inside to nobody."""
        start = now(self.device)
        try:
            yield
        finally:
            seconds = now(self.device) - start
            self.uncharged += seconds
            self.inside += seconds

    def seconds(self) -> float:
        """All seconds accounted for so far, charged or not."""
        return self.uncharged + sum(spent.seconds for spent in self.spent.values())


class Meter:
    """Sums of one epoch, kept on the device so that reading them is the only synchronisation."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.started, self.inside = ledger, now(ledger.device), ledger.inside
        self.batches = self.samples = 0
        self.loss_sum = torch.zeros((), device=ledger.device, dtype=torch.float64)
        self.right: Tensor | None = None

    def add(self, loss: Tensor, samples: int, right: Tensor | None) -> None:
        """Count one batch: its mean `loss`, and how many of its `samples` were `right`, if any."""
        self.batches += 1
        self.samples += samples
        self.loss_sum += loss.detach() * samples
        if right is not None:
            self.right = right if self.right is None else self.right + right

    def loss(self) -> float:
        """Mean loss per sample."""
        return float(self.loss_sum) / self.samples

    def accuracy(self) -> float | None:
        """Fraction of the samples that was right while training; none where none can be."""
        return None if self.right is None else int(self.right) / self.samples

    def charge(self, phase: Phase, per_epoch: int) -> float:
        """Count this epoch, but for what `spend` has charged meanwhile, to `phase`; its seconds."""
        seconds = now(self.ledger.device) - self.started - (self.ledger.inside - self.inside)
        self.ledger.add(phase, self.batches / per_epoch, self.samples, seconds)
        return seconds
