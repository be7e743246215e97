"""SparseGPT: one shot, layer by layer, the kept weights make up for what is pruned.

Frantar, Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot", ICML
2023 (arXiv 2301.00774); the update of one weight is that of the optimal brain surgeon, Hassibi,
Stork, NeurIPS 1993. Verified: the authors' code, where `samples` is 128.

For each layer, with X its inputs over calibration samples and W (out, columns):
1. H = X X^T + damp mean(diag) I; U the upper Cholesky factor of its inverse.                   (1)
2. Column by column, in blocks: the saliency of w_j is w_j^2 / U_jj^2; in each block the weights of
   smallest saliency go.                                                                        (2)
3. A pruned w_j changes the later weights of its row by -w_j / U_jj U_j.                        (3)
This leaves |W X - W' X| smaller than the mask alone does.

Deviations from the paper:
- All layers are pruned with the inputs of the dense net, so that one pass over the samples serves;
  the authors give each transformer block what the pruned blocks before it give.
- Convolutions are unfolded, recurrent layers unrolled; grouped convolutions go group by group, each
  with the same count, since every group has a matrix H of its own.
- All methods fine-tune; the paper does not. The accuracy `before` shows the method alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.method import Density, Method
from bench.surgery import Masks, prunable
from bench.surgery.allocation import weight_counts
from bench.surgery.inputs import grams
from bench.surgery.layers import scoring_copy
from bench.surgery.patterns import keep_top
from bench.trainer import Trainer


class Sparsegpt(Method):
    """Prune by the layer's reconstruction error, and repair it."""

    family = "second order"
    patterns = ("unstructured",)
    citation = "Frantar and Alistarh, ICML 2023"

    density: Density = 0.1
    samples: int = Field(512, ge=1, description="calibration samples")
    damp: float = Field(0.01, gt=0, description="of the mean diagonal of H, added to it")
    block: int = Field(128, ge=1, description="columns among which a block's weights compete")

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Prune and repair each layer, fine-tune; one point."""
        weights, masks = prunable(model), Masks()
        sizes = {n: w.numel() for n, w in weights.items()}
        counts = weight_counts(dict.fromkeys(sizes, self.density), sizes)
        with trainer.spend("score"), torch.no_grad():
            batches = (inputs for inputs, _ in trainer.samples(self.samples))
            moments = grams(scoring_copy(model), batches)
            for name, weight in weights.items():
                rows = weight.flatten(1).double().unflatten(0, (len(moments[name]), -1))
                left = shared_out(counts[name], len(rows))
                parts = [
                    self.pruned(w, h, k) for w, h, k in zip(rows, moments[name], left, strict=True)
                ]
                new = torch.cat([w for w, _ in parts]).view(weight.shape)
                masks[name] = torch.cat([m for _, m in parts]).view(weight.shape)
                weight.copy_(new)
        masks.apply_(model)
        trainer.pruned(model)
        trainer.fit(model, masks=masks)
        yield model

    def pruned(self, weight: Tensor, gram: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """(repaired weight, mask) of one layer, (out, columns), of which `count` entries stay."""
        weight, kept = weight.clone(), torch.zeros_like(weight, dtype=torch.bool)
        upper = self.inverse_factor(gram)
        columns, dead = weight.shape[1], gram.diagonal() == 0
        for first in range(0, columns, self.block):
            last = min(columns, first + self.block)
            saliency = (weight[:, first:last] / upper.diagonal()[first:last]).square()  # (2)
            saliency[:, dead[first:last]] = 0  # an input that is always zero has no say
            # what this block keeps leaves the others their share
            here = round(count * last / columns) - int(kept.sum())
            kept[:, first:last] = keep_top(saliency, here)
            for j in range(first, last):
                lost = torch.where(kept[:, j], 0.0, weight[:, j]) / upper[j, j]
                weight[:, j:] -= lost[:, None] * upper[j, j:]  # (3)
        return torch.where(kept, weight, 0.0), kept

    def inverse_factor(self, gram: Tensor) -> Tensor:
        """U of equation (1)."""
        diagonal = gram.diagonal()
        # where an input is always zero any value serves: it only has to have an inverse
        h = gram + torch.diag((diagonal == 0).to(gram) + self.damp * diagonal.mean())
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(h))
        return torch.linalg.cholesky(inverse, upper=True)


def shared_out(count: int, parts: int) -> list[int]:
    """`count` in `parts` whole numbers, as even as can be."""
    return [count * (i + 1) // parts - count * i // parts for i in range(parts)]
