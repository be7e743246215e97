"""SET: sparse evolutionary training; the smallest weights go, others grow at random places.

Mocanu et al., "Scalable training of artificial neural networks with adaptive sparse connectivity
inspired by network science", Nature Communications 2018 (arXiv 1707.04780). Verified: the rule, in
rigl's and JaxPruner's code. Recalled: what is said of the paper.

1. Start from a random sparse net, layer densities by Erdos-Renyi-Kernel.
2. Train. Every `interval` steps drop, in each layer, the fraction zeta of the kept weights that are
   smallest, and grow as many at random places among all that are not kept, with value 0; one
   just dropped may be drawn, and keeps its value.
3. After `end` train on with fixed connections.

Deviations from the paper:
- Connections move every `interval` steps up to `end` of the training, as RigL's, so that the two
  differ in what grows only; the paper moves them after each epoch, to the end. In a training too
  short for `least` moves they move more often.
- Layer densities by Erdos-Renyi-Kernel; the paper's Erdos-Renyi does not know kernels.
- The paper drops the smallest positive and the largest negative weights; here by magnitude, as in
  both codes.
- Of the author's two codes one grows zeros, as here, the other small random numbers. A zero that
  grows where no gradient comes (at a unit whose ReLU is never on) stays one, so the net may end
  with fewer weights than asked for; its density is the measured one.
- A weight that grows has the momentum that its place has left, of a factor 0.9 for each step since
  its last weight was dropped; the codes set it to zero.
- Initial weights are those that all methods of a seed share.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor, nn

from bench.method import Density, Method
from bench.surgery import Allocation, prune, uniform
from bench.surgery.regrow import Connections, updates
from bench.trainer import Trainer


class Set(Method):
    """Drop the smallest, grow at random, while a sparse net trains."""

    version = 2
    start = "init"
    family = "sparse training"
    patterns = ("unstructured",)
    citation = "Mocanu et al., Nature Communications 2018"

    density: Density = 0.1
    allocation: Allocation = "erk"
    zeta: float = Field(0.3, gt=0, lt=1, description="fraction of a layer's connections that move")
    interval: int = Field(100, ge=1, description="steps between moves, or fewer (see least)")
    end: float = Field(0.75, gt=0, lt=1, description="fraction of the training in which they move")
    least: int = Field(20, ge=1, description="moves that a short training has at least")

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Train while connections move; one point."""
        draws = trainer.generator()

        def chance(name: str, weight: Tensor) -> Tensor:
            return torch.rand(weight.shape, generator=draws).to(weight.device)

        scores = uniform(model, draws)
        model, masks = prune(
            model, scores, self.density, allocation=self.allocation, shape=trainer.shape
        )
        connections, epochs = Connections(masks), trainer.epochs()
        total = trainer.steps(epochs)
        due = set(updates(total, self.interval, self.end, self.least)) - {total}

        def on_step(model: nn.Module, step: int) -> None:
            if step in due:
                with trainer.spend("prune"):
                    for line in connections.move(model, self.zeta, chance):
                        trainer.log("connections", step=step, **line)

        trainer.fit(model, epochs, masks=masks, on_step=on_step)
        yield model
