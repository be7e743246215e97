"""Iterative magnitude pruning with rewinding: the lottery ticket.

Frankle and Carbin, "The Lottery Ticket Hypothesis", ICLR 2019; rewinding to step k: Frankle et al.,
"Linear Mode Connectivity and the Lottery Ticket Hypothesis", ICML 2020.

1. Train the dense net to the end (the shared dense run).
2. Remove ceil(20 %) of the remaining weights, those of smallest magnitude over all layers.
3. Set the survivors back to their values at step k of the dense run; k = 0 is the original ticket.
4. Train with the masks held, yield, and go on at 2 until the density is reached.

Deviations from the paper:
- One run passes through every requested density: a round that would step over one stops there.
- In the equal tier that run has the epochs that a one-shot method has for all those densities
  together, although each round starts over from (nearly) untrained weights; rounds are merged until
  each has a whole epoch, but never past a requested density. That is the ticket at the price of
  one-shot pruning, not at its best: the paper tier removes 20 % a round and trains each as long as
  the dense net.
- The output layer is pruned like the others (the authors' code leaves it dense in LeNet-300-100).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydantic import Field
from torch import nn

from bench.method import Density, Method
from bench.surgery import magnitudes, prunable, prune
from bench.trainer import Trainer


class LotteryTicket(Method):
    """Prune 20 % a round by global magnitude, rewind, retrain."""

    family = "magnitude"
    patterns = ("unstructured",)
    citation = "Frankle and Carbin, ICLR 2019"
    iterative = True
    rewinds = True

    density: Density = 0.1
    rate: float = Field(
        0.2, gt=0, lt=1, description="fraction of the remaining weights removed in a round"
    )
    rewind_step: int = Field(
        0, ge=0, description="k, the step of the dense run whose weights survivors return to"
    )

    def counts(self, total: int, stops: tuple[float, ...] = ()) -> list[int]:
        """Weights that remain after each round.

        From `total` through every stop down to the requested density.
        """
        remaining = [total]
        for stop in (*(d for d in stops if d > self.density), self.density):
            wanted = max(1, round(stop * total))
            while remaining[-1] > wanted:
                remaining.append(max(wanted, remaining[-1] - math.ceil(self.rate * remaining[-1])))
        return remaining[1:] or [total]

    def compress(self, model: nn.Module, trainer: Trainer) -> Iterator[nn.Module]:
        """Prune, rewind and retrain until the density is reached; a point each round."""
        rewound = trainer.rewound(self.rewind_step)
        total = sum(weight.numel() for weight in prunable(model).values())
        rounds = self.counts(total, trainer.densities)
        stops = {round(d * total) for d in (*trainer.densities, self.density)}
        rounds = merge(rounds, total, trainer.rounds(len(rounds)), stops)
        for index, count in enumerate(rounds, 1):
            model, masks = prune(model, magnitudes(model), count / total, shape=trainer.shape)
            trainer.pruned(model)
            model.load_state_dict(rewound)
            trainer.fit(
                model, trainer.epochs(len(rounds)), lr=trainer.recipe("pretrain").lr, masks=masks
            )
            trainer.log(
                "round",
                round=index,
                density=count / total,
                validation=trainer.validate(model).score,
            )
            yield model


def merge(counts: list[int], total: int, rounds: int, stops: set[int]) -> list[int]:
    """`counts` without as many rounds as are over `rounds`.

    Each time the round goes whose merged step is the smallest; `stops` stay.
    """
    path = [total, *counts]
    while len(path) - 1 > rounds and (
        free := [i for i in range(1, len(path) - 1) if path[i] not in stops]
    ):
        path.pop(min(free, key=lambda i: path[i - 1] / path[i + 1]))
    return path[1:]
