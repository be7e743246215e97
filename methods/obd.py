"""OBD: optimal brain damage; prune by the diagonal of the second derivatives.

LeCun, Denker, Solla, "Optimal Brain Damage", NeurIPS 1989. Recalled.

1. At a minimum, removing w changes the loss by about h w^2 / 2, h = d2L/dw2.                   (1)
2. h by the diagonal of the Gauss-Newton matrix, without the negative terms, as in the paper.   (2)
3. Remove the smallest over all layers, train on.

Deviations from the paper:
- The diagonal is that of the Fisher matrix, which the Gauss-Newton matrix is for cross-entropy:
  mean of g^2 over samples, each with a label drawn from the net's own output. The paper propagates
  second derivatives backwards; for convolutions and recurrent layers this is simpler and unbiased.
- One round of pruning, as all one-shot methods here, instead of several.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.method import Density, Method
from bench.surgery import Allocation, PatternError, PatternName, Uneven, magnitudes, prunable, prune
from bench.surgery.layers import scoring_copy
from bench.trainer import Trainer


class Obd(Method):
    """Keep the weights with the largest h w^2 / 2."""

    family = "second order"
    patterns = ("unstructured", "k-of-n", "N:M", "block", "column", "kernel", "channel")
    citation = "LeCun, Denker and Solla, NeurIPS 1989"

    density: Density = 0.1
    pattern: PatternName = "unstructured"
    allocation: Allocation = "global"
    uneven: Uneven = Field("refuse")
    samples: int = Field(256, ge=1, description="training samples, a backward pass for each")

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Score, prune, fine-tune; one point."""
        if trainer.data.task.name != "classification":
            raise PatternError("obd draws labels from the outputs: it needs a classifier")
        with trainer.spend("score"):
            curvature = self.curvature(model, trainer)
        scores = {n: curvature[n] * w.square() / 2 for n, w in magnitudes(model).items()}  # (1)
        model, masks = prune(
            model,
            scores,
            self.density,
            pattern=self.pattern,
            allocation=self.allocation,
            uneven=self.uneven,
            shape=trainer.shape,
        )
        trainer.pruned(model)
        trainer.fit(model, masks=masks)
        yield model

    def curvature(self, model: nn.Module, trainer: Trainer) -> dict[str, Tensor]:
        """H of every prunable weight, equation (2)."""
        net, draws = scoring_copy(model), trainer.generator("labels")
        weights = prunable(net)
        total = {n: torch.zeros_like(w) for n, w in weights.items()}
        for inputs, _ in trainer.samples(self.samples):
            for sample in inputs.split(1):
                outputs = net(sample)
                chance = outputs.detach().softmax(1).cpu().double()
                label = torch.multinomial(chance, 1, generator=draws)[:, 0].to(outputs.device)
                loss = trainer.loss(outputs, label)
                for name, g in zip(
                    weights, torch.autograd.grad(loss, list(weights.values())), strict=True
                ):
                    total[name] += g.square() / self.samples
        return total
