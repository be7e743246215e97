"""SynFlow: prune an untrained net without data, a little at a time.

Tanaka, Kunin, Yamins, Ganguli, "Pruning neural networks without any data by iteratively conserving
synaptic flow", NeurIPS 2020 (arXiv 2006.05467). Verified: the authors' code.

1. Replace all parameters and buffers by their absolute values; R = the sum of the outputs for an
   input of ones.                                                                               (1)
2. Score z = |dR/dw w|.                                                                         (2)
3. Keep the largest over all layers; after round k of n = 100 the density is D^(k / n).         (3)
4. After n rounds, train with the masks held.

In a net without shortcuts and biases the scores of a layer's inputs and outputs have equal sums, so
no layer is emptied while another has weights to give. Beside a shortcut one may be (ResNet-8 at
0.5 %): such a run fails with layer collapse, a result.

Deviations from the paper:
- Flows are computed in float64: in float32 deep nets overflow or vanish (the code has no remedy).
- Batch norms are in eval mode, the code's default.
- Gates of recurrent layers saturate, so that for them (2) conserves nothing.
- Initial weights are those that all methods of a seed share.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.method import Density, Method
from bench.surgery import Allocation, Masks, prunable, prune
from bench.surgery.layers import scoring_copy
from bench.trainer import Trainer


class Synflow(Method):
    """Keep the weights through which most flows, counted without data."""

    start = "init"
    family = "at initialisation"
    patterns = ("unstructured",)
    citation = "Tanaka et al., NeurIPS 2020"

    density: Density = 0.1
    allocation: Allocation = "global"
    rounds: int = Field(100, ge=1, description="n, the number of prunings before training")

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Prune in rounds, then train; one point."""
        with trainer.spend("score"):
            masks = self.masks(model, trainer.shape)
        masks.apply_(model)
        trainer.fit(model, trainer.epochs(), masks=masks)
        yield model

    def masks(self, model: nn.Module, shape: tuple[int, ...]) -> Masks:
        """What is left after all rounds, equation (3)."""
        net = self.positive(model)
        masks = Masks()
        for k in range(1, self.rounds + 1):
            density = self.density ** (k / self.rounds)
            # one net for all rounds: what is zero has no flow, and ties go to the first index
            masks = prune(net, flow(net, shape), density, allocation=self.allocation, shape=shape)[
                1
            ]
        return masks

    def positive(self, model: nn.Module) -> nn.Module:
        """A copy in float64 with absolute values, for equation (1)."""
        net = scoring_copy(model).double()
        with torch.no_grad():
            for tensor in (*net.parameters(), *net.buffers()):
                tensor.abs_()
        return net


def flow(net: nn.Module, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Equation (2) for every prunable weight of `net`, whose values are not negative."""
    weights = prunable(net)
    like = next(iter(weights.values()))
    total = net(like.new_ones(1, *shape)).sum()
    gradients = torch.autograd.grad(total, list(weights.values()))
    return {n: (g * w).abs().detach() for (n, w), g in zip(weights.items(), gradients, strict=True)}
