"""Random pruning: the control that every method has to beat.

Blalock et al., "What is the State of Neural Network Pruning?", MLSys 2020, section 6 (random
controls).

1. Draw a score z ~ U(0, 1) for every weight.
2. Keep the best units of the zero pattern; the allocation says how many in each layer, by default
   one threshold for all layers (global).
3. Train on with the masks held.

Deviations from the paper: none. With `allocation` a table of counts it is the control "random with
the method's own layer proportions", which the benchmark adds to every method by itself. As a
control it starts from the dense net again for each operating point that it copies.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field
from torch import nn

from bench.method import Density, Method
from bench.surgery import Allocation, PatternName, Uneven, prune, uniform
from bench.trainer import Trainer


class Random(Method):
    """Keep weights, or whole units of a pattern, at random."""

    family = "random"
    patterns = ("unstructured", "k-of-n", "N:M", "block", "column", "kernel", "channel")
    citation = "Blalock et al., MLSys 2020"

    density: Density = 0.1
    pattern: PatternName = "unstructured"
    allocation: Allocation = "global"
    uneven: Uneven = Field("refuse")

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Draw, prune, fine-tune; one point."""
        model, masks = prune(
            model,
            uniform(model, trainer.generator()),
            self.density,
            pattern=self.pattern,
            allocation=self.allocation,
            uneven=self.uneven,
            shape=trainer.shape,
        )
        trainer.pruned(model)
        trainer.fit(model, masks=masks)
        yield model
