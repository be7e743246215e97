"""How many units each layer keeps: the rules that spread one global budget over the layers.

A unit is what a pattern removes as a whole (a weight, a block, a channel ...). Every rule returns
counts per layer whose total meets the budget exactly where units have one size, and within one unit
where they differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Rule = Literal["global", "layerwise", "layer_normalised", "erk", "uniform_plus", "lamp"]
"""How the budget is spread.

global: one threshold; layerwise: the same density everywhere; layer_normalised: one threshold on
scores divided by the layer's norm; erk, uniform_plus: from the shapes; lamp: one threshold on LAMP
scores.
"""


class AllocationError(ValueError):
    """A density that the rule cannot give."""


def allocate(
    scores: dict[str, Tensor],
    sizes: dict[str, int],
    shapes: dict[str, tuple[int, ...]],
    density: float,
    rule: Rule,
) -> dict[str, int]:
    """Units that each layer keeps.

    `scores`: layer -> (units,) scores, larger is kept; `sizes`: weights per unit; `shapes`: the
    weights' shapes.
    """
    if rule == "global":
        return one_threshold(scores, sizes, density)
    if rule == "layer_normalised":
        # jaxpruner: divided by the layer's L2 norm
        normal = {n: s.double() / (s.double().norm() + 1e-8) for n, s in scores.items()}
        return one_threshold(normal, sizes, density)
    if rule == "lamp":
        return one_threshold({n: lamp(s) for n, s in scores.items()}, sizes, density)
    units = {n: s.numel() for n, s in scores.items()}
    weights = {n: units[n] * sizes[n] for n in scores}
    if rule == "erk":
        return round_counts(
            {n: d * units[n] for n, d in erk(shapes, weights, density).items()}, units, sizes
        )
    if rule == "uniform_plus":
        return round_counts(
            {n: d * units[n] for n, d in uniform_plus(shapes, weights, density).items()},
            units,
            sizes,
        )
    return round_counts({n: density * units[n] for n in units}, units, sizes)


def one_threshold(
    scores: dict[str, Tensor], sizes: dict[str, int], density: float
) -> dict[str, int]:
    """Counts per layer when the best units over all layers are kept; ties go to the first index.

    The kept weights come as close to the budget as whole units allow.
    """
    flat = torch.cat([s.flatten().double() for s in scores.values()])
    size = torch.cat([torch.full((s.numel(),), sizes[n]) for n, s in scores.items()]).to(
        flat.device
    )
    order = torch.argsort(flat, descending=True, stable=True)
    kept_weights = size[order].cumsum(0)
    budget = round(density * int(size.sum()))
    count = int((kept_weights <= budget).sum())
    if count < len(order):
        below = int(kept_weights[count - 1]) if count else 0
        count += int(kept_weights[count]) - budget < budget - below
    chosen = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    chosen[order[:count]] = True
    parts = chosen.split([s.numel() for s in scores.values()])
    return {name: int(part.sum()) for name, part in zip(scores, parts, strict=True)}


def lamp(scores: Tensor) -> Tensor:
    """LAMP scores (Lee et al., ICLR 2021), of the shape of `scores`.

    w_u^2 / sum of w_v^2 over |w_v| >= |w_u|, summed from the largest weight down in float64: a
    float32 running sum gives the largest weight of a layer anything from 0.99 to 1.008 instead
    of 1.
    """
    squares = scores.flatten().double().square()
    # of equal weights the first scores lowest, as published
    order = torch.argsort(squares, stable=True).flip(0)
    ordered = squares[order]
    result = torch.empty_like(squares)
    result[order] = ordered / ordered.cumsum(0).clamp_min(torch.finfo(torch.float64).tiny)
    return result.view(scores.shape)


def erk(
    shapes: dict[str, tuple[int, ...]], weights: dict[str, int], density: float
) -> dict[str, float]:
    """Densities by Erdos-Renyi-Kernel (Evci et al., 2020).

    Proportional to sum(shape) / prod(shape), at most 1.
    """
    raw = {n: sum(shape) / math.prod(shape) for n, shape in shapes.items()}
    return water_fill(lambda c: {n: min(1.0, c * raw[n]) for n in raw}, weights, density)


def uniform_plus(
    shapes: dict[str, tuple[int, ...]], weights: dict[str, int], density: float
) -> dict[str, float]:
    """Densities by Uniform+ (Gale et al., 2019).

    The first convolution is dense, the last layer at least 20 % dense, the rest uniform. Raises
    `ValueError` if those two alone exceed `density`.
    """
    names = list(shapes)
    dense = {names[0]} if len(shapes[names[0]]) > 2 else set()
    least = {n: 1.0 if n in dense else 0.2 if n == names[-1] else 0.0 for n in names}
    floor = sum(weights[n] * least[n] for n in names) / sum(weights.values())
    if floor > density:
        raise AllocationError(
            f"uniform_plus keeps the first convolution and 20 % of the last layer, "
            f"{floor:.4f} of all weights; density {density} is below that"
        )
    return water_fill(lambda c: {n: max(least[n], min(1.0, c)) for n in names}, weights, density)


def water_fill(
    densities: Callable[[float], dict[str, float]], weights: dict[str, int], density: float
) -> dict[str, float]:
    """The densities at the level c where their weighted mean is `density`.

    `densities(c)` must grow with c.
    """
    total = sum(weights.values())

    def mean(level: float) -> float:
        return sum(weights[n] * d for n, d in densities(level).items()) / total

    low, high = 0.0, 1.0
    while mean(high) < density and high < 1e30:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if mean(middle) < density else (low, middle)
    return densities(high)


def weight_counts(densities: dict[str, float], sizes: dict[str, int]) -> dict[str, int]:
    """Weights that each layer keeps at its density, rounded together; `sizes`: weights it has."""
    wanted = {n: d * sizes[n] for n, d in densities.items()}
    return round_counts(wanted, sizes, dict.fromkeys(sizes, 1))


def round_counts(
    wanted: dict[str, float], units: dict[str, int], sizes: dict[str, int]
) -> dict[str, int]:
    """Whole counts near `wanted` with its total, by largest remainder.

    Every layer keeps at least one unit. With units of one size the total is exact; with several
    sizes it is the closest that this order reaches.
    """
    counts = {n: min(units[n], max(1, math.floor(w + 1e-9))) for n, w in wanted.items()}
    budget = round(sum(w * sizes[n] for n, w in wanted.items()))
    for name in sorted(wanted, key=lambda n: counts[n] - wanted[n]):
        short = budget - sum(c * sizes[n] for n, c in counts.items())
        if counts[name] < min(wanted[name], units[name]) and short * 2 > sizes[name]:
            counts[name] += 1
    for name in sorted(wanted, key=lambda n: wanted[n] - counts[n]):
        over = sum(c * sizes[n] for n, c in counts.items()) - budget
        if over * 2 > sizes[name] and counts[name] > 1:
            counts[name] -= min(counts[name] - 1, max(1, over // sizes[name]))
    return counts
