"""The dense baseline: ordinary training, nothing pruned.

Every other run of the same data set, architecture and seed starts from its weights or is compared
to it.

1. Train the net from its initial weights; yield it once.

Deviations from the paper: none; there is no paper.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from bench.method import Method
from bench.trainer import Trainer


class Dense(Method):
    """Train the whole net."""

    start = "init"
    family = "baseline"
    citation = "ordinary training"

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Train once, yield once."""
        trainer.fit(model, phase="pretrain")
        yield model
