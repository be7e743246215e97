"""Static sparse training: a random sparse net, trained from the start; the control of SET and RigL.

As in Evci et al., "Rigging the Lottery", ICML 2020 (arXiv 1911.11134). Verified: layer densities
by Erdos-Renyi-Kernel, in rigl's code. Recalled: the rest.

1. Draw a score z ~ U(0, 1) for every weight of the untrained net; keep the best of each layer, at
   layer densities by Erdos-Renyi-Kernel.
2. Train with the masks held.

Deviations from the paper:
- Initial weights are those that all methods of a seed share.
- Other patterns than single weights are the benchmark's addition.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field
from torch import nn

from bench.method import Density, Method
from bench.surgery import Allocation, PatternName, Uneven, prune, uniform
from bench.trainer import Trainer


class StaticSparse(Method):
    """Train a random sparse net."""

    start = "init"
    family = "sparse training"
    patterns = ("unstructured", "k-of-n", "N:M", "block", "column", "kernel", "channel")
    citation = "Evci et al., ICML 2020"

    density: Density = 0.1
    pattern: PatternName = "unstructured"
    allocation: Allocation = "erk"
    uneven: Uneven = Field("refuse")

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Draw, prune, train; one point."""
        model, masks = prune(
            model,
            uniform(model, trainer.generator()),
            self.density,
            pattern=self.pattern,
            allocation=self.allocation,
            uneven=self.uneven,
            shape=trainer.shape,
        )
        trainer.fit(model, trainer.epochs(), masks=masks)
        yield model
