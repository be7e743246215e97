"""Straight-through magnitude: the largest weights at every step, gradients to all of them.

As "magnitude STE" in JaxPruner (Lee et al., 2023, arXiv 2304.14082); the estimator is Bengio,
Leonard, Courville, arXiv 1308.3432. Recalled but for JaxPruner's name and results.

1. At every step m keeps the largest |w| of each layer.
2. Forward with m w; the gradient passes m as if it were 1, so all weights step.
3. The mask of the end stays for the rest of the training, what is pruned at zero.

Deviations from the paper:
- The density is the final one from the first step, without a schedule (`dpf` has one, and moves its
  mask every 16 steps).
- The mask is fixed at the fraction `end` of the training, so that the weights learn with the mask
  that they will have.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field
from torch import Tensor, nn

from bench.method import Density, Method
from bench.surgery import Allocation, Masks, magnitudes
from bench.surgery.patterns import Pattern, PatternName
from bench.surgery.prune import Uneven, check, select
from bench.trainer import Trainer


class StraightThrough(Method):
    """Magnitude pruning anew at every step, with straight-through gradients."""

    start = "init"
    family = "magnitude"
    patterns = ("unstructured", "k-of-n", "N:M", "block", "column", "kernel")
    citation = "Lee et al., 2023"

    density: Density = 0.1
    pattern: PatternName = "unstructured"
    allocation: Allocation = "layerwise"
    uneven: Uneven = Field("refuse")
    end: float = Field(0.75, gt=0, le=1, description="fraction of the training with moving masks")

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Train through the masks; one point."""
        epochs, held = trainer.epochs(), Masks()
        last = max(1, round(self.end * trainer.steps(epochs)))
        pattern = Pattern.parse(self.pattern)
        check(model, self.pattern, self.density, self.uneven)

        def masks() -> Masks:
            return select(model, magnitudes(model), self.density, pattern, self.allocation)

        def see(own: dict[str, Tensor]) -> dict[str, Tensor]:
            moving = {} if held else masks()
            return {n: own[n] + (own[n] * m - own[n]).detach() for n, m in moving.items()}

        def on_step(model: nn.Module, step: int) -> None:
            if step == last:
                held.update(masks())
                held.apply_(model)

        trainer.fit(model, epochs, masks=held, through=see, on_step=on_step)
        yield model
