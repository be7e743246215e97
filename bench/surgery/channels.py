"""Channels that are coupled: find them, score them, zero them, and take them out of the net.

    found = groups(model, shape)
    keep = {group.name: scores(group, magnitudes(model)) > threshold for group in found}
    mask(model, found, keep)                 # zeros, the same shapes
    smaller = shrink(model, shape, keep)     # the same function, fewer numbers

Removing a channel changes nothing but its own contribution: a group exists only where that holds,
and
`groups` and `shrink` prove it by a forward pass of the masked and of the smaller net.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench import rng
from bench.surgery import removal
from bench.surgery.layers import prunable
from bench.surgery.probe import SurgeryError
from bench.surgery.trace import Unit, trace

__all__ = ["Group", "Slice", "SurgeryError", "groups", "mask", "removable", "scores", "shrink"]

TOLERANCE = 1e-6  # of the largest logit, in float64


@dataclass(frozen=True, eq=False)
class Slice:
    """Where the units of a group lie in one tensor.

    `name`: parameter or buffer; `axis`; `index`: int64 (C, m), the m places along the axis of each
    unit;
    `output`: the unit is made here (filter, bias, batch norm), else it is read here.
    """

    name: str
    axis: int
    index: Tensor
    output: bool


@dataclass(frozen=True, eq=False)
class Group:
    """Units that may be removed one by one: `size` (C) of them.

    `name`: the first weight that makes them, with `@c` when that weight makes several groups (c the
    first channel); `producers`: all prunable weights that make them.
    """

    name: str
    size: int
    producers: tuple[str, ...]
    slices: tuple[Slice, ...]


def groups(model: nn.Module, shape: tuple[int, ...]) -> list[Group]:
    """Every group of removable units of `model` for one input of `shape`, in layer order.

    The image, the output, and channels that layer norm or attention mix are never in one (so of a
    vision transformer only the hidden units of its MLPs are). An empty list: the net has no hidden
    channels.

    Raises:
        SurgeryError: the net cannot be traced, has no removable channel, or changes its output in
        another
            way when channels go; the message says why.
    """
    found = _find(model, shape)
    if found:
        stream = rng.generator("surgery", *shape)
        keep = {g.name: torch.randperm(g.size, generator=stream) < -(-g.size // 2) for g in found}
        probe = copy.deepcopy(model)
        removal.scatter(probe, stream)
        _prove(probe, _smaller(probe, found, keep), found, keep, shape)
    return found


def scores(group: Group, weight_scores: Mapping[str, Tensor]) -> Tensor:
    """The sum of the scores of all weights that make a unit: (C,).

    `weight_scores`: a tensor of the weight's shape for every name in `group.producers`.
    """
    total: Tensor | None = None
    for place in group.slices:
        if not place.output or place.name not in group.producers:
            continue
        score = weight_scores[place.name].movedim(place.axis, 0).flatten(1).sum(1)
        part = score[place.index.to(score.device)].sum(1)
        total = part if total is None else total + part
    if total is None:
        raise SurgeryError(f"{group.name}: no prunable weight makes these channels")
    return total


@torch.no_grad()
def mask(model: nn.Module, groups: Iterable[Group], keep: Mapping[str, Tensor]) -> None:
    """Zero every parameter of the units that are not kept, in place; running statistics stay.

    `keep`: group name -> bool (C,), True = kept. A group without an entry is kept whole.
    """
    parameters = dict(model.named_parameters())
    for group in groups:
        gone = ~_choice(group, keep)
        for place in group.slices:
            tensor = parameters.get(place.name)
            if tensor is not None:
                index = place.index[gone].flatten().to(tensor.device)
                tensor.index_fill_(place.axis, index, 0)


def removable(model: nn.Module, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Group name -> bool (C,), False for the units that no weight reads (their readers are zero).

    Such a unit can go without a change of the output: what `mask` zeroed, and what died otherwise.
    Of a group that is dead altogether the first unit is kept, since a layer cannot be empty.
    """
    weights = dict(model.named_parameters())
    keep = {}
    for group in _find(model, shape):  # what `shrink` does with them, it proves
        alive = torch.zeros(group.size, dtype=torch.bool)
        for place in group.slices:
            if not place.output:
                read = weights[place.name].detach().movedim(place.axis, 0).flatten(1).ne(0).any(1)
                alive |= read.cpu()[place.index].any(1)
        if not alive.any():
            alive[0] = True
        keep[group.name] = alive
    return keep


def shrink(model: nn.Module, shape: tuple[int, ...], keep: Mapping[str, Tensor]) -> nn.Module:
    """A copy of `model` without the units that are not kept; `model` stays untouched.

    `keep` as for `mask`. The copy has plain layers of smaller size and computes what the masked net
    does.

    Raises:
        SurgeryError: as `groups`; an unknown group; a layer that would be left without channels.
    """
    found = _find(model, shape)
    unknown = sorted(set(keep) - {group.name for group in found})
    if unknown:
        raise SurgeryError(f"no such group: {', '.join(unknown)}; see groups(model, shape)")
    smaller = _smaller(model, found, keep)
    _prove(model, smaller, found, keep, shape)
    return smaller


def _choice(group: Group, keep: Mapping[str, Tensor]) -> Tensor:
    """The entry of `keep` for `group` on the CPU, all True if there is none."""
    chosen = keep.get(group.name)
    if chosen is None:
        return torch.ones(group.size, dtype=torch.bool)
    if chosen.dtype != torch.bool or chosen.shape != (group.size,):
        raise SurgeryError(
            f"keep[{group.name!r}] is {chosen.dtype} {tuple(chosen.shape)}; "
            f"it must be bool ({group.size},)"
        )
    return chosen.cpu()


def _find(model: nn.Module, shape: tuple[int, ...]) -> list[Group]:
    """Sort the units of a trace into groups: units with the same places in the same tensors."""
    traced = trace(model, shape)
    sizes = {name: t.shape for name, t in removal.tensors(model).items()}
    weights = {name: order for order, name in enumerate(prunable(model))}
    alike: dict[frozenset[object], list[Unit]] = defaultdict(list)
    for unit in traced.units:
        made = any(entry.output and entry.name in weights for entry in unit)
        read = any(not entry.output for entry in unit)
        # a unit that is all of a tensor cannot go: nothing would be left
        whole = any(len(index) == sizes[entry.name][entry.axis] for entry, index in unit.items())
        if made and read and not whole:
            alike[frozenset((entry, len(index)) for entry, index in unit.items())].append(unit)
    found = sorted((_group(units, weights) for units in alike.values()), key=lambda g: g[0])
    if not found and traced.refused:
        reasons = "; ".join(f"{name} {reason}" for name, reason in sorted(traced.refused.items()))
        raise SurgeryError(f"{type(model).__name__} has no channel that can be removed: {reasons}")
    names = [group.name for _, group in found]
    return [
        group
        if names.count(group.name) == 1
        else Group(f"{group.name}@{first}", group.size, group.producers, group.slices)
        for (_, first), group in found
    ]


def _group(units: list[Unit], weights: Mapping[str, int]) -> tuple[tuple[int, int], Group]:
    """The group of `units`, after its place in the order of the net: (weight, first channel)."""
    entries = list(units[0])
    made = sorted(
        (e for e in entries if e.output and e.name in weights), key=lambda e: weights[e.name]
    )
    producers = tuple(dict.fromkeys(entry.name for entry in made))
    units = sorted(units, key=lambda unit: unit[made[0]])
    slices = tuple(
        Slice(e.name, e.axis, torch.tensor([unit[e] for unit in units]), e.output)
        for e in sorted(entries, key=lambda e: (not e.output, weights.get(e.name, -1), e))
    )
    order = (weights[producers[0]], units[0][made[0]][0])
    return order, Group(producers[0], len(units), producers, slices)


def _smaller(model: nn.Module, found: Iterable[Group], keep: Mapping[str, Tensor]) -> nn.Module:
    lost: dict[tuple[str, int], list[Tensor]] = defaultdict(list)
    for group in found:
        gone = ~_choice(group, keep)
        if gone.any():
            for place in group.slices:
                lost[place.name, place.axis].append(place.index[gone].flatten())
    try:
        return removal.without(model, {key: torch.cat(parts) for key, parts in lost.items()})
    except ValueError as error:
        raise SurgeryError(str(error)) from error


def _prove(
    model: nn.Module,
    smaller: nn.Module,
    found: Iterable[Group],
    keep: Mapping[str, Tensor],
    shape: tuple[int, ...],
) -> None:
    """Refuse a net whose masked and smaller versions do not agree."""
    masked = copy.deepcopy(model)
    mask(masked, found, keep)
    name = type(model).__name__
    try:
        error = removal.difference(masked, copy.deepcopy(smaller), shape)
    except Exception as reason:  # a forward that hard-codes a shape raises whatever it likes
        raise SurgeryError(f"{name} cannot run with fewer channels: {reason}") from reason
    if not error <= TOLERANCE:
        raise SurgeryError(
            f"{name} gives other outputs without its masked channels "
            f"(relative difference {error:.2g}): "
            "its forward pass mixes channels in a way that the trace does not see"
        )
