"""SNIP: prune an untrained net by how much the loss would notice, then train what is left.

Lee, Ajanthan, Torr, "SNIP: Single-shot network pruning based on connection sensitivity", ICLR 2019
(arXiv 1810.02340). Verified: the score in two public re-implementations; the rest as recalled.

1. On one batch, the sensitivity of the loss to a multiplicative mask c at c = 1:
   s = |dL/dc| = |w dL/dw|, normalised by its sum.                                              (1)
2. Keep the largest over all layers, set the others to zero.
3. Train with the masks held.

Deviations from the paper:
- Scores are not normalised: it changes no rank.
- Units of a pattern (block, column, kernel, channel) are scored by their mean; the paper has single
  weights only.
- Initial weights are those that all methods of a seed share: Kaiming's for convolutions, torch's
  own for linear layers; the paper scales variances everywhere.
- Every layer keeps what the threshold leaves it, be it nothing: such a run fails with layer
  collapse, a result.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field
from torch import nn

from bench.method import Density, Method
from bench.surgery import Allocation, PatternName, Uneven, magnitudes, prune
from bench.trainer import Trainer


class Snip(Method):
    """Keep the weights to which the loss of the untrained net is most sensitive."""

    start = "init"
    family = "at initialisation"
    patterns = ("unstructured", "k-of-n", "N:M", "block", "column", "kernel", "channel")
    citation = "Lee et al., ICLR 2019"

    density: Density = 0.1
    pattern: PatternName = "unstructured"
    allocation: Allocation = "global"
    uneven: Uneven = Field("refuse")
    samples: int | None = Field(
        None, ge=1, description="training samples that score; none: one batch, as published"
    )

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Score by (1), prune, train; one point."""
        gradients = trainer.gradients(model, self.samples, batch_statistics=True)
        scores = {n: w * gradients[n].abs() for n, w in magnitudes(model).items()}
        model, masks = prune(
            model,
            scores,
            self.density,
            pattern=self.pattern,
            allocation=self.allocation,
            uneven=self.uneven,
            shape=trainer.shape,
        )
        trainer.fit(model, trainer.epochs(), masks=masks)
        yield model
