"""How a layer's weights lie in groups of candidates, and how many of each group are kept.

A group is a row of n candidates of which exactly k survive; all groups of a layer have one k. The
masks are made from `chosen` (groups, n), of any type, so gradients pass.

An output is an entry of the stored weight's first axis: of a recurrent layer one of a gate, of a
transposed convolution, which stores (in, out / groups, *kernel), an input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from bench.surgery import channels
from bench.surgery.allocation import round_counts
from bench.surgery.layers import prunable
from bench.surgery.patterns import PatternError
from bench.surgery.prune import Uneven, channel_counts

Granularity = Literal["output", "tap", "filter", "kernel"]
"""What competes in a group.

output: all weights of one output; tap: those of one 2-D kernel; filter: those of all outputs at one
input tap; kernel: the 2-D kernels of one output.
"""


class Candidates(Protocol):
    """The groups of one layer, or of one set of coupled channels."""

    @property
    def groups(self) -> int:
        """Groups, all alike."""

    @property
    def n(self) -> int:
        """Candidates in each."""

    @property
    def tiles(self) -> int:
        """Groups that one row is cut into; they follow each other."""

    def masks(self, chosen: Tensor) -> dict[str, Tensor]:
        """Weight -> factors that broadcast to its shape, for `chosen` (groups, n)."""


@dataclass(frozen=True)
class Weights:
    """Weights or kernels of one layer.

    `name`, `shape`: the weight's; `tile`: candidates per group (0: all of a row); `shared`: outputs
    that follow each other and share a row, each candidate being a weight of every one (of
    granularity output alone). Where the tiles do not divide a row, what is left over at its end is
    always kept.
    """

    name: str
    shape: tuple[int, ...]
    granularity: Granularity = "output"
    tile: int = 0
    shared: int = 1

    @property
    def rows(self) -> tuple[int, int]:
        """Rows before they are cut into tiles, and candidates in each."""
        out, inside, taps = self.shape[0], self.shape[1], math.prod(self.shape[2:])
        return {
            "output": (out // self.shared, inside * taps),
            "tap": (out * inside, taps),
            "filter": (inside * taps, out),
            "kernel": (out, inside),
        }[self.granularity]

    @property
    def n(self) -> int:
        """Candidates in a group."""
        return self.tile or self.rows[1]

    @property
    def tiles(self) -> int:
        """Groups in a row."""
        return self.rows[1] // self.n

    @property
    def groups(self) -> int:
        """Groups in the layer."""
        return self.rows[0] * self.tiles

    @property
    def step(self) -> int:
        """Weights that one more candidate in every group keeps."""
        each = math.prod(self.shape[2:]) if self.granularity == "kernel" else self.shared
        return self.groups * each

    @property
    def free(self) -> int:
        """Weights in no group."""
        return math.prod(self.shape) - self.step * self.n

    def masks(self, chosen: Tensor) -> dict[str, Tensor]:
        """`chosen` where the weights are; kernels as (out, in, 1, 1)."""
        rows, candidates = self.rows
        whole = chosen.reshape(rows, -1)
        if left := candidates - whole.shape[1]:
            whole = torch.cat([whole, whole.new_ones(rows, left)], 1)
        if self.granularity == "kernel":
            return {self.name: whole.view(*self.shape[:2], *[1] * (len(self.shape) - 2))}
        if self.granularity == "filter":  # transposed: a reshape would make other groups of it
            whole = whole.t()
        return {self.name: whole[:, None].expand(-1, self.shared, -1).reshape(self.shape)}


@dataclass(frozen=True)
class Channels:
    """`n` coupled channels, as one group; `shapes`: of every parameter.

    `readers`: where the channels are read, indices on the device of the masks.

    The masks are those of the weights that read the channels, which is to multiply the feature maps
    themselves. Masks on what makes a channel would not do: behind a batch norm whose scale is
    masked, a channel that is not chosen gets no gradient, and never comes back.
    """

    n: int
    readers: tuple[channels.Slice, ...]
    shapes: Mapping[str, tuple[int, ...]]
    groups: int = 1
    tiles: int = 1

    def masks(self, chosen: Tensor) -> dict[str, Tensor]:
        """`chosen` (1, channels) along the input axis of every weight that reads them."""
        found: dict[str, Tensor] = {}
        for place in self.readers:
            shape = self.shapes[place.name]
            along = chosen.new_ones(shape[place.axis]).index_put(
                (place.index.flatten(),), chosen.view(-1, 1).expand(place.index.shape).flatten()
            )
            along = along.view([-1 if axis == place.axis else 1 for axis in range(len(shape))])
            found[place.name] = found[place.name] * along if place.name in found else along
        return found


def weights(
    model: nn.Module,
    granularity: Granularity,
    *,
    tile: int = 0,
    tiles: int = 1,
    shared: int = 1,
    uneven: Uneven = "refuse",
) -> dict[str, Weights]:
    """The groups of every prunable weight, in tiles of length `tile` or `tiles` to a row.

    A weight without 2-D kernels (linear, recurrent; of taps also 1x1) is grouped by output. Where
    tiles do not divide a row, what is left over stays dense, and a layer whose rows are shorter
    than a tile, or whose outputs are no multiple of `shared`, stays dense as a whole, or, if
    `uneven` refuses, `PatternError` is raised.
    """
    found = {}
    for name, weight in prunable(model).items():
        shape = tuple(weight.shape)
        kernels = len(shape) > 2 and (granularity != "tap" or math.prod(shape[2:]) > 1)
        if shape[0] % shared:
            if uneven == "refuse":
                raise PatternError(
                    f"layer {name!r}: its {shape[0]} outputs are no multiple of {shared}; "
                    "uneven: dense leaves it dense"
                )
            continue
        whole = Weights(name, shape, granularity if kernels else "output", shared=shared)
        row = whole.rows[1]
        length = tile or row // tiles
        fits = 1 <= length <= row
        if uneven == "refuse" and not (fits and row % length == 0):
            asked = f"{tiles} tiles" if not tile else f"tiles of {tile}"
            raise PatternError(
                f"layer {name!r}: its rows of {row} candidates cannot be cut into {asked}; "
                "uneven: dense keeps what is left over"
            )
        if fits:
            found[name] = replace(whole, tile=length)
    return found


def counts(found: Mapping[str, Weights], density: float, total: int) -> dict[str, int]:
    """The k of every layer that together keep `density` of `total` weights, to the nearest step.

    The same fraction everywhere, by largest remainder, at least 1; what is in no group counts as
    kept. Raises `PatternError` if that cannot be.
    """
    inside = sum(c.step * c.n for c in found.values())
    fraction = (density * total - (total - inside)) / inside
    steps = {name: c.step for name, c in found.items()}
    sizes = {name: c.n for name, c in found.items()}
    k = round_counts({name: max(0.0, fraction) * n for name, n in sizes.items()}, sizes, steps)
    kept = sum(k[name] * steps[name] for name in k) + total - inside
    if abs(kept - density * total) > max(steps.values()):
        raise PatternError(
            f"density {density:g} is out of reach: with at least one of each group and what is in "
            f"none, {kept / total:.4f} is kept"
        )
    return k


def coupled(
    model: nn.Module, shape: tuple[int, ...], density: float
) -> tuple[dict[str, Candidates], dict[str, int]]:
    """Every group of coupled channels of `model` for inputs of `shape`, and k of each.

    As many as leave `density` of the weights; see `channel_counts`.
    """
    found = channels.groups(model, shape)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    device = next(model.parameters()).device
    sets: dict[str, Candidates] = {}
    for group in found:
        readers = tuple(
            replace(place, index=place.index.to(device))
            for place in group.slices
            if not place.output
        )
        sets[group.name] = Channels(group.size, readers, shapes)
    return sets, channel_counts(model, found, density)
