"""Patterns of 3 x 3 kernels: four entries that stay, out of a small library of their places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import torch
from torch import Tensor

KEPT, CENTRE, ENTRIES = 4, 4, 9


def fits(shape: Iterable[int]) -> bool:
    """Whether a weight of this shape has 3 x 3 kernels."""
    return tuple(shape)[2:] == (3, 3)


def natural(weight: Tensor) -> Tensor:
    """Each kernel's own pattern: the centre and its three largest others, bool (kernels, 9)."""
    size = weight.detach().reshape(-1, ENTRIES).abs().double()
    size[:, CENTRE] = torch.inf
    chosen = size.topk(KEPT, 1).indices
    return torch.zeros_like(size, dtype=torch.bool).scatter_(1, chosen, True)


def library(weights: Iterable[Tensor], patterns: int) -> dict[tuple[int, ...], int]:
    """The most frequent natural patterns of all kernels, as places (0 to 8), with their counts."""
    counted: Counter[tuple[int, ...]] = Counter()
    for weight in weights:
        rows, counts = natural(weight).unique(dim=0, return_counts=True)
        for row, count in zip(rows, counts.tolist(), strict=True):
            counted[tuple(row.nonzero()[:, 0].tolist())] += count
    # of equal counts the first places
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return dict(ordered[:patterns])


def masks(places: Iterable[tuple[int, ...]]) -> Tensor:
    """The patterns with these places, bool (patterns, 9)."""
    rows = list(places)
    found = torch.zeros(len(rows), ENTRIES, dtype=torch.bool)
    for row, kept in zip(found, rows, strict=True):
        row[list(kept)] = True
    return found


def fitted(weight: Tensor, patterns: Tensor) -> Tensor:
    """The mask of `weight` with the pattern that retains the most energy of each kernel."""
    energy = weight.detach().reshape(-1, ENTRIES).double().square()
    patterns = patterns.to(weight.device)
    best = (energy @ patterns.double().T).argmax(1)
    return patterns[best].view(weight.shape)
