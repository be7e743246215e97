"""RigL: the smallest weights go, others grow where the gradient is largest.

Evci, Gale, Menick, Castro, Elsen, "Rigging the Lottery: Making All Tickets Winners", ICML 2020
(arXiv 1911.11134). Verified: the authors' code; that T_end is 75 % of the training is recalled.

1. Start from a random sparse net, layer densities by Erdos-Renyi-Kernel.
2. Train. Every `interval` steps t up to T_end, in each layer, drop the fraction
   f(t) = alpha / 2 (1 + cos(pi t / T_end))                                                     (1)
   of the kept weights that are smallest, and grow as many where |dL/dw| of that step's batch is
   largest, among all that are not kept; new weights are 0, one just dropped keeps its value. (2)
3. After T_end train on with fixed connections.

Deviations from the paper:
- The step whose gradient is used also updates the weights; the code skips its update.
- A training too short for `least` moves at this interval moves more often.
- The share of a layer's weights that move is rounded, where the code rounds it down; the code adds
  noise to the sizes, against ties.
- A weight that grows has the momentum that its place has left, of a factor 0.9 for each step since
  its last weight was dropped; one that was dropped and grown at once has all of it.
- Initial weights are those that all methods of a seed share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydantic import Field
from torch import Tensor, nn

from bench.method import Density, Method
from bench.surgery import Allocation, prunable, prune, uniform
from bench.surgery.gradients import Gradients
from bench.surgery.regrow import Connections, updates
from bench.trainer import Trainer


class Rigl(Method):
    """Drop the smallest, grow by gradient, while a sparse net trains."""

    version = 2
    start = "init"
    family = "sparse training"
    patterns = ("unstructured",)
    citation = "Evci et al., ICML 2020"

    density: Density = 0.1
    allocation: Allocation = "erk"
    alpha: float = Field(0.3, gt=0, lt=1, description="fraction of connections that move at first")
    interval: int = Field(100, ge=1, description="steps between moves, or fewer (see least)")
    end: float = Field(0.75, gt=0, lt=1, description="T_end, a fraction of the training")
    least: int = Field(20, ge=1, description="moves that a short training has at least")

    def fraction(self, progress: float) -> float:
        """Equation (1) at t / T_end."""
        return self.alpha / 2 * (1 + math.cos(math.pi * min(1.0, progress)))

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Train while connections move; one point."""
        scores = uniform(model, trainer.generator())
        model, masks = prune(
            model, scores, self.density, allocation=self.allocation, shape=trainer.shape
        )
        connections, epochs = Connections(masks), trainer.epochs()
        total = trainer.steps(epochs)
        due = [s for s in updates(total, self.interval, self.end, self.least) if s < total]
        gradients = Gradients(prunable(model))

        def growth(name: str, weight: Tensor) -> Tensor:
            return gradients.found[name].abs()

        def on_step(model: nn.Module, step: int) -> None:
            if step in due:
                gradients.stop()
                with trainer.spend("prune"):
                    moving = self.fraction(step / (self.end * total))
                    for line in connections.move(model, moving, growth):
                        trainer.log("connections", step=step, **line)
            if step + 1 in due:
                gradients.watch()

        if due and due[0] == 1:
            gradients.watch()
        trainer.fit(model, epochs, masks=masks, on_step=on_step)
        yield model
