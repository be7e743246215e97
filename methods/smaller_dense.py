"""A smaller dense net, trained as long: what pruning to the same size has to beat.

Blalock et al., "What is the State of Neural Network Pruning?", MLSys 2020: an efficient dense
architecture is the rival that pruning papers leave out. Verified: nothing; there is no algorithm to
verify.

1. Make every layer narrower by the same fraction of channels, the one that leaves the requested
   density of the weights.
2. Draw the weights anew, as the architecture draws them for these widths.
3. Train as long as the dense net and the fine-tuning together.

Deviations from the paper: the rival is the same architecture, narrowed evenly, and no other one;
with few weights its narrowest layers are bottlenecks (LeNet-300-100 at 2 %: 7 and 2 units), which a
search for better widths would avoid.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from bench import models, rng
from bench.method import Density, Method
from bench.surgery import prunable, prune
from bench.trainer import Trainer


class SmallerDense(Method):
    """Train the same architecture with fewer channels."""

    start = "init"
    family = "baseline"
    patterns = ("channel",)
    citation = "Blalock et al., MLSys 2020"

    density: Density = 0.1
    pattern: Literal["channel"] = Field("channel", description="whole channels are left out")

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Narrow, draw anew, train; one point."""
        alike = {name: torch.ones_like(weight) for name, weight in prunable(model).items()}
        model, _ = prune(
            model,
            alike,
            self.density,
            pattern=self.pattern,
            allocation="layerwise",
            shape=trainer.shape,
        )
        spec = trainer.spec
        with rng.forked("smaller", spec.arch, spec.seed):
            model = models.reinitialise(model, spec.arch)
        trainer.fit(model, trainer.epochs())
        yield model
