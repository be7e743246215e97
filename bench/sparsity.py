"""Indices of how sparse a vector is; shared by SAP and SAAM.

The PQ Index: Diao et al., "Pruning Deep Neural Networks from a Sparsity Perspective", ICLR 2023.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pq_index(w: Tensor, p: float = 0.5, q: float = 1.0, kept: Tensor | None = None) -> Tensor:
    """The PQ Index I_{p,q} of each row of `w` (..., n), in float64; larger is sparser.

    I = 1 - d^(1/q - 1/p) |w|_p / |w|_q. `kept` (bool, like `w`) names the entries that count, d of
    them in a row; all by default. As in the authors' code the index is 0 where d = 0 or all entries
    are zero, and rounding below 0 becomes 0.
    """
    if not 0 < p < q:
        raise ValueError(f"the PQ Index needs 0 < p < q, not p = {p:g}, q = {q:g}")
    size = w.detach().double().abs()
    size = size if kept is None else size * kept
    d = (
        torch.full(size.shape[:-1], size.shape[-1], device=w.device)
        if kept is None
        else kept.sum(-1)
    )
    largest = size.amax(-1, keepdim=True)
    size = size / torch.where(largest > 0, largest, 1)  # scale invariant; keeps the powers in range
    norm_p = size.pow(p).sum(-1).pow(1 / p)
    norm_q = size.pow(q).sum(-1).pow(1 / q)
    index = 1 - d.double().clamp_min(1).pow(1 / q - 1 / p) * norm_p / norm_q
    return torch.where((d > 0) & (norm_q > 0), index.clamp_min(0), 0.0)


def retained(index: Tensor, p: float, q: float, eta: float = 0.0) -> Tensor:
    """Theorem 2: the fraction r / d that must be kept; of the shape of `index`.

    (1 + eta)^(-q/(q-p)) (1 - I)^(qp/(q-p)).
    """
    return (1 + eta) ** (-q / (q - p)) * (1 - index).pow(q * p / (q - p))


def gini(w: Tensor) -> float:
    """Gini index of |w| (flat), after Hurley and Rickard, 2009.

    0 for a constant vector, towards 1 for a sparse one.
    """
    size = w.detach().double().abs().flatten().sort().values
    n, total = len(size), size.sum()
    if total == 0:
        return 0.0
    rank = torch.arange(1, n + 1, device=w.device, dtype=torch.float64)
    return float(1 - 2 * (size / total * (n - rank + 0.5) / n).sum())
