"""The control that trains a pruned shape from scratch: are the inherited weights worth anything?

Liu et al., "Rethinking the Value of Network Pruning", ICLR 2019 ("Scratch-E": as many epochs).

1. Take the net that another run ends with: its zeros, its removed channels, its factors.
2. Draw all weights anew, for the sizes that the layers have now; the zeros stay.
3. Train it as long as the dense start and the fine-tuning together.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field
from torch import nn

from bench import models, rng
from bench.method import Density, Method
from bench.surgery import nonzero
from bench.trainer import Trainer


class Scratch(Method):
    """Train a pruned shape from untrained weights."""

    start = "copy"
    family = "control"
    citation = "Liu et al., ICLR 2019"

    density: Density | None = Field(
        None, description="asked of the copied run: a label, the copied shape decides"
    )

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Draw the weights of the copied net anew, train; one point."""
        masks, spec = nonzero(model), trainer.spec
        with rng.forked("scratch", spec.arch, spec.seed):
            model = models.reinitialise(model, spec.arch)
        trainer.fit(model, trainer.epochs(), masks=masks)
        yield model
