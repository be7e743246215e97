"""Groups of weights that are pruned with a probability p, which their ranks raise and lower.

Any method that ranks groups and draws them can use it; what a rank adds to p is the method's. All
is on the CPU, where its random numbers are the same on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

NEAR = 1e-9
"""A sum of steps may miss 1 by an ulp: p this near to 1 is 1, p this much lower has fallen."""


class Groups:
    """The groups of one layer; each tensor has an entry for each of the `size` groups.

    `left` counts those that are still to be pruned. p is 1 for the pruned, and only for them.
    """

    def __init__(self, size: int, target: int, history: float | None = 0.0) -> None:
        """`target` of them are to be pruned.

        They are ranked by the score S <- `history` S + norm; none: by the running mean of ranks.
        """
        self.target = self.left = target
        self.history, self.updates, self.forced = history, 0, 0
        self.p, self.score, self.peak = torch.zeros(3, size, dtype=torch.float64)
        self.pruned, self.fell = torch.zeros(2, size, dtype=torch.bool)

    def rank(self, norms: Tensor) -> Tensor:
        """Each group's place among those not yet pruned, 0 for the smallest."""
        if self.history is not None:
            self.score = self.history * self.score + norms.double()
        else:
            self.score += (self._order(norms.double()) - self.score) / self.updates
        return self._order(self.score)

    def _order(self, score: Tensor) -> Tensor:
        alive = torch.where(self.pruned, math.inf, score)
        return torch.argsort(torch.argsort(alive, stable=True))

    def update(self, norms: Tensor, increment: Callable[[Tensor, int], Tensor]) -> None:
        """Set p to clip(p + increment(ranks, left), 0, 1), ranked by `norms`; 1 is for good.

        Of groups that reach 1 together, no more are pruned than are left, by rank.
        """
        self.updates += 1
        rank = self.rank(norms)
        p = (self.p + increment(rank, self.left)).clamp(0, 1)
        p = torch.where(self.pruned | (p > 1 - NEAR), 1.0, p)
        self.fell |= p < self.p - NEAR
        self.p, self.peak = p, torch.maximum(self.peak, p)
        self.prune(torch.argsort(rank), p == 1)

    def force(self, norms: Tensor) -> None:
        """Prune at once what the target lacks: highest p first, of equals the smallest norm."""
        self.forced = self.left
        order = torch.argsort(norms, stable=True)
        order = order[torch.argsort(self.p[order], descending=True, stable=True)]
        self.prune(order, ~self.pruned)

    def prune(self, order: Tensor, due: Tensor) -> None:
        """Prune those that are `due` (bool), in this `order` (indices), up to the target."""
        self.pruned[order[(due & ~self.pruned)[order]][: self.left]] = True
        self.p = torch.where(self.pruned, 1.0, self.p.clamp_max(1 - NEAR))
        self.left = self.target - int(self.pruned.sum())

    def progress(self) -> dict[str, object]:
        """For history: groups whose p fell since the last time; counts of p by tenths, and at 1."""
        bins = torch.bincount((10 * self.p).long(), minlength=11).tolist()
        fell, self.fell[:] = int(self.fell.sum()), False
        return {"groups": len(self.p), "pruned": bins[10], "fell": fell, "histogram": bins}

    def summary(self) -> dict[str, object]:
        """For history; `recovered`: survivors whose p has fallen, `peak`: the highest of theirs."""
        p, peak = self.p[~self.pruned], self.peak[~self.pruned]
        return {
            "groups": len(self.p), "pruned": int(self.pruned.sum()), "target": self.target,
            "updates": self.updates, "forced": self.forced,
            "recovered": int((peak > p + NEAR).sum()), "peak": float(peak.max()),
        }  # fmt: skip


def draw(
    layers: Mapping[str, Groups], stream: torch.Generator, rows: Mapping[str, int]
) -> dict[str, Tensor]:
    """Who is seen: bool (rows * size,) for each layer, each True with probability 1 - p.

    A layer that has met its target draws nothing: its survivors are always seen, in (size,). The
    others share one draw, in their order.
    """
    p = {n: layer.p.repeat(rows[n]) for n, layer in layers.items() if layer.left}
    flat = torch.cat([torch.empty(0, dtype=torch.float64), *p.values()])
    seen = torch.rand(len(flat), generator=stream, dtype=torch.float64) >= flat
    drawn = dict(zip(p, seen.split([len(part) for part in p.values()]), strict=True))
    return {n: drawn.get(n, ~layer.pruned) for n, layer in layers.items()}
