"""One-shot magnitude pruning, with every allocation over the layers and every zero pattern.

Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015
(layerwise); the allocations: LAMP (Lee et al., ICLR 2021), ERK (Evci et al., ICML 2020), Uniform+
(Gale et al., 2019), layer-normalised (JaxPruner, Lee et al., 2023).

1. Score every weight by |w|, and a unit of a pattern (block, column, kernel, channel) by the mean
   of |w| over its weights; a channel's weights are those that produce it.
2. Keep the best units: one threshold for all layers (global) or counts per layer (the other
   allocations).
3. Train on with the masks held.

Deviations from the paper:
- Han et al. alternate pruning and training; here it is one round, so that every method spends the
  same training.
- They choose a threshold for each layer; here the default is one threshold for all.
- Ties are broken by index, so that counts are exact.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field
from torch import nn

from bench.method import Density, Method
from bench.surgery import Allocation, PatternName, Uneven, magnitudes, prune
from bench.trainer import Trainer


class Magnitude(Method):
    """Keep the largest weights, or the units of a pattern with the largest mean."""

    family = "magnitude"
    patterns = ("unstructured", "k-of-n", "N:M", "block", "column", "kernel", "channel")
    citation = "Han et al., NeurIPS 2015"

    density: Density = 0.1
    pattern: PatternName = "unstructured"
    allocation: Allocation = "global"
    uneven: Uneven = Field("refuse")

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Score, prune, fine-tune; one point."""
        model, masks = prune(
            model,
            magnitudes(model),
            self.density,
            pattern=self.pattern,
            allocation=self.allocation,
            uneven=self.uneven,
            shape=trainer.shape,
        )
        trainer.pruned(model)
        trainer.fit(model, masks=masks)
        yield model
