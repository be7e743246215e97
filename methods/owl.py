"""OWL: layers with more outliers keep more weights; inside a layer the largest stay.

Yin et al., "Outlier Weighed Layerwise Sparsity (OWL)", ICML 2024 (arXiv 2310.05175). Verified: the
authors' code.

1. A_ij = |w_ij| |x_j|_2, x_j the weight's input over calibration samples.                       (1)
2. D_l: the share of A_ij above m times the mean of the layer's A, in %.                         (2)
3. D is mapped linearly to [0, 2 lambda], less its mean; added to the density it gives d_l.      (3)
4. Keep the d_l of each layer that are largest by |w|; or (`rank: wanda`) by A in each output's row.

Deviations from the paper:
- A layer is one weight, since these nets have no blocks of one size; in the paper, of language
  models, it is a transformer block.
- Layers have different sizes here: all d_l are shifted together, within one weight and all, until
  the net has its density.
- lambda is at most half the density, or layers would be left empty.
- All methods fine-tune, so that they compare; the paper does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from bench.method import Density, Method
from bench.surgery import magnitudes, prune
from bench.surgery.allocation import water_fill, weight_counts
from bench.surgery.inputs import squares
from bench.surgery.layers import scoring_copy
from bench.trainer import Trainer


class Owl(Method):
    """Densities from the outliers of weights times inputs."""

    family = "allocation"
    patterns = ("unstructured", "k-of-n")
    citation = "Yin et al., ICML 2024"

    density: Density = 0.1
    m: float = Field(5.0, gt=1, description="how many times the mean an outlier has at least")
    lam: float = Field(0.08, ge=0, description="lambda, half the spread of the densities")
    rank: Literal["magnitude", "wanda"] = Field(
        "magnitude", description="what is kept inside a layer: largest |w|, or largest A"
    )
    samples: int = Field(128, ge=1, description="calibration samples")

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Allocate by outliers, prune, fine-tune; one point."""
        with trainer.spend("score"):
            batches = (inputs for inputs, _ in trainer.samples(self.samples))
            scores = metric(model, squares(scoring_copy(model), batches))
        shares = {n: outliers(a, self.m) for n, a in scores.items()}
        sizes = {n: a.numel() for n, a in scores.items()}
        densities = self.densities(shares, sizes)
        for name, level in densities.items():
            trainer.log("allocation", layer=name, measure=shares[name], density=level)
        counts = weight_counts(densities, sizes)
        ranked = magnitudes(model) if self.rank == "magnitude" else scores
        pattern = "unstructured" if self.rank == "magnitude" else "k-of-n"
        model, masks = prune(
            model, ranked, self.density, pattern=pattern, allocation=counts, shape=trainer.shape
        )
        trainer.pruned(model)
        trainer.fit(model, masks=masks)
        yield model

    def densities(self, shares: dict[str, float], sizes: dict[str, int]) -> dict[str, float]:
        """Equation (3): d_l from D_l, in all the requested density."""
        low, high = min(shares.values()), max(shares.values())
        spread = 2 * min(self.lam, self.density / 2) / (high - low) if high > low else 0.0
        own = {n: spread * (d - low) for n, d in shares.items()}
        mean = sum(own.values()) / len(own)

        def shifted(c: float) -> dict[str, float]:  # by c - 1, c from 0 to 2
            wanted = {n: self.density + d - mean + c - 1 for n, d in own.items()}
            return {n: min(1.0, max(1 / sizes[n], d)) for n, d in wanted.items()}

        return water_fill(shifted, sizes, self.density)


def metric(model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Equation (1) for every weight; `inputs`: squared norms (groups, columns)."""
    found = {}
    for name, size in magnitudes(model).items():
        rows = inputs[name].sqrt().repeat_interleave(len(size) // len(inputs[name]), 0)
        found[name] = size * rows.view(size.shape).to(size)
    return found


def outliers(scores: Tensor, m: float) -> float:
    """Equation (2), in %."""
    return 100 * float((scores > m * scores.mean()).double().mean())
