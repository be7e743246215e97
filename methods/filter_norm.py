"""Filter pruning by norm: the filters with the smallest weights go.

Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", ICLR 2017 (arXiv
1608.08710): L1 norms; L2 as in later work. Recalled.

1. Score each filter by the sum of its |w|^p, p = 1 or 2.                                        (1)
2. Remove the same fraction of every layer's filters, with all that reads them.
3. Train on.

Deviations from the paper:
- Filters that are coupled by residual additions go together, by the sum of (1), since neither can
  go alone; the paper takes the ranks of the shortcut.
- Fractions are the same everywhere and meet a density of weights, so that methods compare; the
  paper sets them by hand from each layer's sensitivity.
- Neurons of fully connected layers and units of recurrent layers count as filters, so that any net
  can be pruned.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field
from torch import nn

from bench.method import Density, Method
from bench.surgery import Allocation, magnitudes, prune
from bench.trainer import Trainer


class FilterNorm(Method):
    """Remove the filters of smallest norm."""

    family = "filter"
    patterns = ("channel",)
    citation = "Li et al., ICLR 2017"

    density: Density = 0.1
    pattern: Literal["channel"] = Field("channel", description="whole channels are removed")
    p: Literal[1, 2] = Field(1, description="norm: L1 or L2")
    allocation: Allocation = "layerwise"

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Score, remove, fine-tune; one point."""
        scores = {n: w**self.p for n, w in magnitudes(model).items()}  # (1)
        model, masks = prune(
            model,
            scores,
            self.density,
            pattern=self.pattern,
            allocation=self.allocation,
            shape=trainer.shape,
        )
        trainer.pruned(model)
        trainer.fit(model, masks=masks)
        yield model
