"""GraSP: prune an untrained net so that its gradient stays large.

Wang, Zhang, Grosse, "Picking Winning Tickets Before Training by Preserving Gradient Flow", ICLR
2020 (arXiv 2002.07376). Verified: the authors' code.

1. g = dL/dw of the untrained net, logits divided by T = 200.                                   (1)
2. H g, by differentiating <stop(g), g>.                                                        (2)
3. S = -w (H g) is how much a weight's removal raises the norm of the gradient; remove the largest
   S over all layers.                                                                           (3)
4. Train with the masks held.

Deviations from the paper:
- Scores are not divided by their sum: it is about 3e-9 with batch norm, beside which the code's
  1e-10 matters (a trap of both public implementations).
- Samples are drawn at random, `samples` of them whatever the number of classes, and passed in
  batches of the recipe's size; the code takes 25 (another 10) of each class in two halves that hold
  disjoint classes, which batch norm sees.
- Of a predicted field it is the prediction that is divided by T, so the error is that of almost no
  prediction at all; the paper has classifiers only.
- Initial weights are those that all methods of a seed share.
- A threshold that leaves a layer nothing fails with layer collapse, a result.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.method import Density, Method
from bench.surgery import Allocation, prunable, prune
from bench.surgery.layers import scoring_copy
from bench.trainer import Trainer


class Grasp(Method):
    """Keep the weights whose removal would hurt the gradient's norm most."""

    start = "init"
    family = "at initialisation"
    patterns = ("unstructured",)
    citation = "Wang et al., ICLR 2020"

    density: Density = 0.1
    allocation: Allocation = "global"
    samples: int = Field(250, ge=1, description="training samples that score")
    temperature: float = Field(200.0, gt=0, description="T, what the outputs are divided by")

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Score by (3), prune, train; one point."""
        with trainer.spend("score"):
            scores = self.scores(model, trainer)
        model, masks = prune(
            model, scores, self.density, allocation=self.allocation, shape=trainer.shape
        )
        trainer.fit(model, trainer.epochs(), masks=masks)
        yield model

    def scores(self, model: nn.Module, trainer: Trainer) -> dict[str, Tensor]:
        """W (H g) of every prunable weight: -S, so larger is kept."""
        net = scoring_copy(model, batch_statistics=True)
        weights = prunable(net)
        leaves = list(weights.values())

        def gradients(inputs: Tensor, targets: Tensor, graph: bool = False) -> tuple[Tensor, ...]:
            loss = trainer.loss(net(inputs) / self.temperature, targets) / self.samples
            return torch.autograd.grad(loss, leaves, create_graph=graph)

        # cuDNN's recurrent layers and fused attention have no second derivative
        with torch.backends.cudnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
            parts = [gradients(*batch) for batch in trainer.samples(self.samples)]
            whole = [torch.stack(part).sum(0) for part in zip(*parts, strict=True)]  # (1)
            curved = [torch.zeros_like(g) for g in whole]
            for batch in trainer.samples(self.samples):
                own = gradients(*batch, graph=True)
                flow = torch.stack([(g * o).sum() for g, o in zip(whole, own, strict=True)]).sum()
                for total, part in zip(curved, torch.autograd.grad(flow, leaves), strict=True):
                    total += part  # (2)
        return {n: w.detach() * h for (n, w), h in zip(weights.items(), curved, strict=True)}
