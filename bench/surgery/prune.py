"""One-shot selection: scores, a density, a pattern and an allocation become a pruned model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from bench.surgery import channels
from bench.surgery.allocation import Rule, allocate, round_counts, uniform_plus
from bench.surgery.layers import prunable
from bench.surgery.masks import Masks
from bench.surgery.patterns import (
    Pattern,
    PatternError,
    expand,
    keep_k_of_row,
    keep_n_of_m,
    keep_top,
    unit_scores,
)

Allocation = Annotated[
    Rule | dict[str, int],
    Field(
        description="how the budget is spread over the layers: global, layerwise, "
        "layer_normalised, erk, uniform_plus, lamp; or the number of weights that each named layer "
        "keeps (channels, for the channel pattern)"
    ),
]
Uneven = Annotated[
    Literal["refuse", "dense"],
    Field(
        description="a layer that the pattern does not divide: refuse the run, or leave dense what "
        "is left over (N:M: the last inputs of each output; blocks, shared k of n: the layer)"
    ),
]


def prune(
    model: nn.Module,
    scores: dict[str, Tensor],
    density: float,
    *,
    pattern: str = "unstructured",
    allocation: Allocation = "global",
    uneven: Uneven = "refuse",
    shape: tuple[int, ...],
) -> tuple[nn.Module, Masks]:
    """Keep the best-scored units of `model`.

    The model is changed in place, or replaced when channels are removed. `scores`: a tensor of the
    weight's shape for every prunable weight, larger is kept. `shape`: one input (C, H, W). Returns
    the pruned model and the masks that keep it so; the masks are empty where channels are gone for
    good.
    """
    parsed = Pattern.parse(pattern)
    if parsed.kind == "channel":
        return remove_channels(model, scores, density, allocation, shape), Masks()
    check(model, pattern, density, uneven)
    masks = select(model, scores, density, parsed, allocation)
    masks.apply_(model)
    return model, masks


def check(model: nn.Module, pattern: str, density: float | None, uneven: Uneven = "refuse") -> None:
    """Raise `PatternError` if a layer cannot hold `pattern`, or the pattern not this density.

    Every prunable weight of `model` is looked at, unless `uneven` layers may stay dense. Without a
    `density` (a method that finds its own) only the shapes are.
    """
    parsed = Pattern.parse(pattern)
    if parsed.kind == "n:m" and density is not None:
        if parsed.n is not None and abs(parsed.n / parsed.m - density) > 1e-9:
            raise PatternError(
                f"pattern {pattern!r} keeps density {parsed.n / parsed.m:g}, not {density:g}; "
                f"ask for that density, or for '*:{parsed.m}', which chooses N for each layer"
            )
        if density * parsed.m < 1 - 1e-9:
            raise PatternError(
                f"pattern {pattern!r} keeps at least 1 of {parsed.m}; "
                f"density {density:g} is below that"
            )
    if uneven == "refuse":
        for name, weight in prunable(model).items():
            if reason := parsed.refusal(tuple(weight.shape)):
                raise PatternError(
                    f"pattern {pattern!r}: layer {name!r} cannot hold it: {reason}; "
                    "uneven: dense skips it"
                )


def check_uniform_plus(model: nn.Module, density: float) -> None:
    """Raise `AllocationError` if Uniform+ keeps more than `density` of this model whatever else."""
    weights = prunable(model)
    shapes = {n: tuple(w.shape) for n, w in weights.items()}
    uniform_plus(shapes, {n: w.numel() for n, w in weights.items()}, density)


def select(
    model: nn.Module,
    scores: dict[str, Tensor],
    density: float,
    pattern: Pattern,
    allocation: Allocation,
) -> Masks:
    """Masks over the weights that can hold `pattern`; `density` counts all prunable weights."""
    if pattern.kind == "channel":
        raise PatternError("channels have no masks of single weights: they are removed")
    weights = prunable(model)
    # what N:M leaves over at the end of a row stays dense; a layer that blocks do not tile, whole
    held = {
        n: w
        for n, w in weights.items()
        if pattern.kind == "n:m" or pattern.refusal(tuple(w.shape)) is None
    }
    if not held:
        raise PatternError(f"no layer can hold the pattern {pattern}")
    if pattern.n is not None:
        return Masks({n: keep_n_of_m(scores[n], pattern.n, pattern.m) for n in held})
    left_dense = sum(w.numel() for n, w in weights.items() if n not in held)
    inside = sum(w.numel() for w in held.values())
    target = (density * (inside + left_dense) - left_dense) / inside
    if target <= 0:
        raise PatternError(
            f"density {density:g}: layers that cannot hold the pattern exceed it already "
            "when left dense"
        )
    units = {n: unit_scores(scores[n].detach(), pattern) for n in held}
    sizes = {n: held[n].numel() // units[n].numel() for n in held}
    if isinstance(allocation, dict):
        counts = {n: round(allocation[n] / sizes[n]) for n in held}
    else:
        counts = allocate(
            units, sizes, {n: tuple(w.shape) for n, w in held.items()}, target, allocation
        )
    if pattern.kind in ("n:m", "k-of-n"):
        # such a layer keeps whole steps of units; rounded together, the layers keep the budget
        step = {
            n: w.numel() // pattern.m if pattern.kind == "n:m" else len(w) // pattern.rows
            for n, w in held.items()
        }
        of = {n: units[n].numel() // step[n] for n in held}
        weights_of = {n: step[n] * sizes[n] for n in held}
        steps = round_counts({n: counts[n] / step[n] for n in held}, of, weights_of)
        counts = {n: steps[n] * step[n] for n in held}
    return Masks({n: realise(scores[n], units[n], counts[n], pattern) for n in held})


def realise(scores: Tensor, units: Tensor, count: int, pattern: Pattern) -> Tensor:
    """The mask of one layer that keeps `count` units in this pattern.

    For N:M the units are weights.
    """
    if pattern.kind == "n:m":
        n = min(pattern.m, max(1, round(count / scores.numel() * pattern.m)))
        return keep_n_of_m(scores, n, pattern.m)
    if pattern.kind == "k-of-n":
        rows = units.view(len(scores) // pattern.rows, -1)
        kept = keep_k_of_row(rows, max(1, round(count / len(rows))))
        return expand(kept, tuple(scores.shape), pattern)
    return expand(keep_top(units, count), tuple(scores.shape), pattern)


def remove_channels(
    model: nn.Module,
    scores: dict[str, Tensor],
    density: float,
    allocation: Allocation | Callable[[float], dict[str, int]],
    shape: tuple[int, ...],
) -> nn.Module:
    """A smaller copy of `model` without its worst channels.

    As near to `density` as whole channels allow; every group of coupled channels keeps at least
    one. `allocation`: a rule, the channels of each group, or as `counts` of `channel_counts`.
    """
    groups = channels.groups(model, shape)
    units = {g.name: channels.scores(g, scores) / weights_per_unit(g, model) for g in groups}
    if isinstance(allocation, dict):
        kept = {n: max(1, allocation.get(n, 1)) for n in units}
    else:
        if not callable(allocation):
            shapes = {g.name: tuple(prunable(model)[g.producers[0]].shape) for g in groups}
            one = dict.fromkeys(units, 1)
            allocation = partial(allocate, units, one, shapes, rule=allocation)
        kept = channel_counts(model, groups, density, allocation)
    return channels.shrink(model, shape, {n: keep_top(s, kept[n]) for n, s in units.items()})


def channel_counts(
    model: nn.Module,
    groups: list[channels.Group],
    density: float,
    counts: Callable[[float], dict[str, int]] | None = None,
) -> dict[str, int]:
    """Channels that each group keeps, at least 1, to leave nearest to `density` of the weights.

    A channel takes weights of its own layers and of its readers with it, so the fraction of
    channels that gives the density is searched for. `counts`: what each group keeps at a fraction;
    by default that fraction of every group. Raises `PatternError` if the nearest is a quarter of
    `density` away.
    """
    tried: dict[float, dict[str, int]] = {}

    def away(fraction: float) -> float:
        wanted = counts(fraction) if counts else even_counts(groups, fraction)
        tried[fraction] = {g.name: min(g.size, max(1, wanted[g.name])) for g in groups}
        return density_of(model, groups, tried[fraction]) - density

    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if away(middle) < 0 else (low, middle)
    error, best = min((abs(away(fraction)), fraction) for fraction in (low, high))
    if error > 0.25 * density:
        raise PatternError(
            f"density {density:g} is out of reach by removing channels; "
            f"the nearest is {error:.4f} away"
        )
    return tried[best]


def even_counts(groups: list[channels.Group], fraction: float) -> dict[str, int]:
    """The same fraction of every group's channels, by largest remainder, at least 1."""
    sizes = {g.name: g.size for g in groups}
    wanted = {name: fraction * size for name, size in sizes.items()}
    return round_counts(wanted, sizes, dict.fromkeys(sizes, 1))


def weights_per_unit(group: channels.Group, model: nn.Module) -> float:
    """Weights that one unit of `group` produces with.

    Divided by it, the scores of different groups are means per weight and can be compared.
    """
    weights = prunable(model)
    return sum(weights[name].numel() for name in group.producers) / group.size


def density_of(model: nn.Module, groups: list[channels.Group], kept: Mapping[str, int]) -> float:
    """Fraction of the prunable weights of `model` that is left once groups keep `kept` channels.

    Which ones does not matter: every channel of a group has as many places in each tensor.
    """
    weights = prunable(model)
    left = {name: list(weight.shape) for name, weight in weights.items()}
    for group in groups:
        for place in group.slices:
            if place.name in left:
                gone = group.size - kept[group.name]
                left[place.name][place.axis] -= gone * place.index.shape[1]
    return sum(map(math.prod, left.values())) / sum(w.numel() for w in weights.values())
