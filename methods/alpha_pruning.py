"""AlphaPruning: layers whose spectrum has a heavier tail keep more weights.

Lu et al., "AlphaPruning: Using Heavy-Tailed Self Regularization Theory for Improved Layer-wise
Pruning of Large Language Models", NeurIPS 2024 (arXiv 2410.10912). Verified: the authors' code.

1. alpha_l: the exponent of the eigenvalues of W^T W by Hill's estimator, over their upper half,
   n of them, down to the median lambda_m: alpha = 1 + n / sum_i ln(lambda_i / lambda_m).        (1)
2. Sparsity s_l = eta times the linear map of alpha from [min, max] to [1 - eps, 1 + eps], eta such
   that the net has its sparsity: the larger alpha, the more goes.                               (2)
3. Keep the largest |w| of each layer.

Deviations from the paper:
- A convolution is the matrix (out, in * kernel), as everywhere here, and a layer is one weight; the
  vision code pools the spectra of a kernel's places.
- Eigenvalues that are zero but for rounding are left out, and a layer without an estimate (one
  eigenvalue, or all alike) gets the mean of the others: it says nothing about its tail.
- The output layer gets the mean, too (`output`): the paper's language models keep their heads, and
  a Hill estimate from half of ten eigenvalues took nearly all of a classifier's weights.
- Beyond a sparsity of 1 / (1 + eps), the paper's range, (2) asks some layers for all they have:
  they keep 1 % of the density, and the others make up for it. Nets then end at chance.
- All methods fine-tune, so that they compare; the paper does not.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.method import Density, Method
from bench.surgery import magnitudes, prunable, prune
from bench.surgery.allocation import water_fill, weight_counts
from bench.trainer import Trainer


class AlphaPruning(Method):
    """Densities from the tails of the layers' spectra."""

    version = 2
    family = "allocation"
    patterns = ("unstructured",)
    citation = "Lu et al., NeurIPS 2024"

    density: Density = 0.1
    eps: float = Field(0.2, ge=0, lt=1, description="half the spread of sparsities, before eta")

    output: bool = Field(False, description="estimate the tail of the output layer, too")

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Allocate by spectra, prune, fine-tune; one point."""
        with trainer.spend("score"):
            tails = {n: hill(w.detach()) for n, w in prunable(model).items()}
            if not self.output:
                tails[list(tails)[-1]] = None
            alphas = filled(tails)
        sizes = {n: w.numel() for n, w in prunable(model).items()}
        densities = self.densities(alphas, sizes)
        for name, level in densities.items():
            trainer.log("allocation", layer=name, measure=alphas[name], density=level)
        counts = weight_counts(densities, sizes)
        model, masks = prune(
            model, magnitudes(model), self.density, allocation=counts, shape=trainer.shape
        )
        trainer.pruned(model)
        trainer.fit(model, masks=masks)
        yield model

    def densities(self, alphas: dict[str, float], sizes: dict[str, int]) -> dict[str, float]:
        """Equation (2), as densities 1 - s_l, in all the requested one."""
        low, high = min(alphas.values()), max(alphas.values())
        span = high - low or 1.0
        mapped = {n: 1 - self.eps + 2 * self.eps * (a - low) / span for n, a in alphas.items()}
        least = {n: max(1 / sizes[n], 0.01 * self.density) for n in sizes}
        most = 1 / min(mapped.values())  # eta at which nothing would be left

        def at(c: float) -> dict[str, float]:  # eta falls as c grows
            eta = max(0.0, most * (1 - c))
            return {n: max(least[n], 1 - eta * m) for n, m in mapped.items()}

        return water_fill(at, sizes, self.density)


def hill(weight: Tensor) -> float | None:
    """Equation (1) for `weight` (out, in, *kernel); none where there is no spread to estimate."""
    values = torch.linalg.svdvals(weight.flatten(1).double()).square().flip(0)  # rising
    values = values[values > torch.finfo(torch.float32).eps * values.max()]
    tail = values[len(values) // 2 :]
    spread = float(torch.log(tail / tail[0]).sum()) if len(tail) else 0.0
    return 1 + len(tail) / spread if spread > 1e-6 * len(tail) else None


def filled(alphas: dict[str, float | None]) -> dict[str, float]:
    """The mean of the known ones for those that are not known."""
    known = [a for a in alphas.values() if a is not None]
    mean = sum(known) / len(known) if known else 1.0
    return {n: mean if a is None else a for n, a in alphas.items()}
