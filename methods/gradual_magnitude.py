"""Gradual magnitude pruning: the density falls by a cubic while the net trains.

Zhu and Gupta, "To prune, or not to prune", ICLR workshop 2018 (arXiv 1710.01878).

1. Train. At n + 1 evenly spaced steps t from `begin` to `end` (fractions of the training), set the
   sparsity, here with s_i = 0, to
   s_t = s_f + (s_i - s_f) (1 - (t - t0) / (n dt))^3.                                           (1)
2. Each time, keep the weights of largest magnitude, by default the same fraction of every layer; a
   removed weight stays zero, so masks are nested.
3. After `end`, train on with the last masks.

Deviations from the paper:
- It starts from the shared dense net instead of early in the first training, so that all methods
  share a start and a budget.
- The schedule is given in fractions of that training instead of steps; the authors' CIFAR
  configuration prunes from 20 % to 77 % of the steps.

The default allocation is layerwise, as in the paper, while that of `magnitude` is global: compare
the two under one allocation. There is no accuracy `before`, since there is no moment of pruning.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field, model_validator
from torch import nn

from bench.method import Density, Method
from bench.surgery import Allocation, Masks, PatternName, Uneven, magnitudes, prune
from bench.trainer import Trainer


class GradualMagnitude(Method):
    """Magnitude pruning along a cubic schedule, during training."""

    family = "magnitude"
    patterns = ("unstructured", "block", "column", "kernel")
    citation = "Zhu and Gupta, ICLR workshop 2018"

    density: Density = 0.1
    pattern: PatternName = "unstructured"
    allocation: Allocation = "layerwise"
    uneven: Uneven = Field("refuse")
    begin: float = Field(
        0.0, ge=0, lt=1, description="fraction of the training at which pruning begins"
    )
    end: float = Field(
        0.75, gt=0, le=1, description="fraction of the training at which the density is reached"
    )
    updates: int = Field(20, ge=1, description="n, the number of pruning steps after the first")

    @model_validator(mode="after")
    def _ordered(self) -> GradualMagnitude:
        if self.begin >= self.end:
            raise ValueError(f"begin {self.begin:g} must be below end {self.end:g}")
        if self.pattern not in ("unstructured", "column", "kernel") and not self.pattern.startswith(
            "block"
        ):
            raise ValueError(
                f"pattern {self.pattern!r} cannot be approached gradually; see `patterns`"
            )
        return self

    def sparsity(self, progress: float) -> float:
        """Equation (1): the sparsity when a fraction `progress` of the pruning steps is done."""
        final = 1 - self.density
        return final - final * (1 - min(1.0, progress)) ** 3

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Train once while the masks tighten; one point."""
        total = trainer.steps()
        first, last = max(1, round(self.begin * total)), max(1, round(self.end * total))
        due = {
            round(first + (last - first) * i / self.updates): i / self.updates
            for i in range(self.updates + 1)
        }
        masks = Masks()

        def tighten(model: nn.Module, step: int) -> None:
            if step in due:
                density = 1 - self.sparsity(due[step])
                with trainer.spend("prune"):
                    masks.update(
                        prune(
                            model,
                            magnitudes(model),
                            density,
                            pattern=self.pattern,
                            allocation=self.allocation,
                            uneven=self.uneven,
                            shape=trainer.shape,
                        )[1]
                    )

        trainer.fit(model, masks=masks, on_step=tighten)
        yield model
