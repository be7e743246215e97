"""Sparse nets whose connections move while they train: weights are dropped, others grown.

A weight that is not kept is exactly zero, so what is grown starts from zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.surgery.layers import prunable
from bench.surgery.masks import Masks
from bench.surgery.patterns import keep_top


def updates(total: int, interval: int, end: float, least: int) -> list[int]:
    """The steps of a training of `total` after which connections move.

    Every `interval` steps up to the fraction `end` of the training; in a training too short for
    `least` of them, more often.
    """
    last = max(1, round(end * total))
    interval = max(1, min(interval, last // max(1, least)))
    return list(range(interval, last + 1, interval))


@torch.no_grad()
def moved(weight: Tensor, kept: Tensor, count: int, growth: Tensor) -> Tensor:
    """The mask after `count` of the `kept` weights were dropped, the smallest, and as many grown.

    Grown are those of largest `growth` (of the weight's shape) among all that did not stay: a
    weight just dropped may grow again, and keeps its value.
    """
    size = torch.where(kept, weight.abs(), -1.0)
    stay = keep_top(size, int(kept.sum()) - count)
    return stay | keep_top(growth.masked_fill(stay, -torch.inf), count)


@dataclass
class Connections:
    """The connections of a net in training, and which it has had so far.

    `masks`: those that the training holds; `first`: where it began; `ever`: all that were kept at
    some time.
    """

    masks: Masks

    def __post_init__(self) -> None:
        """Begin with what is kept now."""
        self.first = Masks({n: m.clone() for n, m in self.masks.items()})
        self.ever = Masks({n: m.clone() for n, m in self.masks.items()})

    def move(
        self,
        model: nn.Module,
        fraction: float,
        growth: Callable[[str, Tensor], Tensor],
    ) -> Iterator[dict[str, str | float]]:
        """Drop and grow a `fraction` of each layer's connections; a line of history for each.

        `growth(name, weight)`: scores of what may grow. changed: kept connections that are new;
        first: those that the training began with; explored: weights that were ever kept, of all.
        """
        for name, weight in prunable(model).items():
            old, count = self.masks[name], round(fraction * int(self.masks[name].sum()))
            new = moved(weight, old, count, growth(name, weight))
            self.masks[name], kept = new, int(new.sum())
            self.ever[name] |= new
            yield {
                "layer": name,
                "changed": int((new & ~old).sum()) / kept,
                "first": int((new & self.first[name]).sum()) / kept,
                "explored": int(self.ever[name].sum()) / weight.numel(),
            }
        self.masks.apply_(model)
