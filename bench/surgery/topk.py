"""Choosing exactly k of n candidates, by logits that gradients can train.

Gumbel top-k with straight-through gradients (Dynamic Probabilistic Pruning, Gonzalez-Carabarin et
al.; deep probabilistic subsampling, Huijben et al., ICLR 2020). Everything works on rows:
(groups, n).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Relaxation = Literal["softmax", "softmax_by_index", "sigmoid"]
"""What stands for the k draws in the backward pass.

softmax: each draw is a softmax over what is not yet drawn, in the order of the draws;
softmax_by_index: the winners in the order of their indices; sigmoid: element by element, the
winners leaving in the order of the draws. DPP's authors remove them by index in both of theirs.
"""


def gumbel(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise of `shape`, on the generator's device."""
    u = torch.rand(shape, generator=generator, device=generator.device)
    return -torch.log(-torch.log(u + 1e-20) + 1e-20)


def top(z: Tensor, k: int) -> Tensor:
    """Bool mask (groups, n) of the `k` largest entries of every row of `z`."""
    mask = torch.zeros_like(z, dtype=torch.bool)
    return mask.scatter_(1, z.topk(k, 1, sorted=False).indices, True)


def straight_through(z: Tensor, k: int, tau: float, relaxation: Relaxation = "softmax") -> Tensor:
    """The k-hot mask of each row's `k` largest `z`, (groups, n); its gradient is the relaxation's.

    The values are exactly 0 and 1; what is not chosen gets a gradient too.
    """
    soft, winners = relax(z, k, tau, relaxation)
    hard = torch.zeros_like(z).scatter_(1, winners, 1.0)
    return hard + (soft - soft.detach())


def relax(z: Tensor, k: int, tau: float, relaxation: Relaxation) -> tuple[Tensor, Tensor]:
    """The relaxation of `k` draws without replacement, and the winners: (groups, n), (groups, k).

    The sum over draws j of softmax(y) over what is not drawn before j, y = z / tau, without a pass
    for each draw. With the winners in order and D_j the sum of exp(y) over all but the first j - 1
    of them, the candidate of rank r gets

        exp(y) sum_(j <= min(r, k)) 1 / D_j

    since it takes part in the draws up to its own. All sums are kept as logarithms and D_j is
    summed from the losers up: after a winner that is far ahead, D_j is tiny beside D_1.
    """
    y = z / tau
    winners = z.detach().topk(k, 1).indices
    if relaxation == "softmax_by_index":
        winners = winners.sort(1).values
    if relaxation == "sigmoid":  # no candidate competes: of k draws it takes part in min(r, k)
        rank = torch.arange(1, k + 1, device=z.device, dtype=z.dtype)
        draws = torch.full_like(y, k).scatter(1, winners, rank.expand(len(y), k))
        return draws * torch.sigmoid(y), winners
    y = y - y.detach().amax(1, keepdim=True)  # no draw sees it, and small numbers are exact
    won = y.gather(1, winners)
    suffix = won.flip(1)
    if k < y.shape[1]:
        losers = y.scatter(1, winners, -math.inf).logsumexp(1, keepdim=True)
        suffix = torch.cat([losers, suffix], 1)
    log_d = suffix.logcumsumexp(1).flip(1)[:, :k]
    log_sum = (-log_d).logcumsumexp(1)
    log_c = log_sum[:, -1:].expand_as(y).scatter(1, winners, log_sum)
    return torch.exp(y + log_c), winners
