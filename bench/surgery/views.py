"""A net as it would be without some of its groups, for methods that draw or learn who goes.

A group is a column of a layer's matrix, one input tap of all outputs, or a channel with all that
belongs to it (see `channels`). Nothing is changed: `seen` gives what a forward pass should use in
the place of the parameters (`trainer.fit(through=...)`), so gradients reach the stored ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bench.surgery import channels
from bench.surgery.allocation import round_counts
from bench.surgery.layers import prunable
from bench.surgery.masks import Masks, magnitudes
from bench.surgery.patterns import Pattern, PatternError, expand
from bench.surgery.prune import remove_channels


class Columns:
    """The columns of every prunable weight; a layer is named by its weight."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        """`shape`: of one input (C, H, W); columns do not need it, `Channels` does."""
        self.model, self.weights = model, prunable(model)
        self.sizes = {n: w[0].numel() for n, w in self.weights.items()}
        self.linear = {n for n, w in self.weights.items() if w.dim() < 3}

    def kept(self, density: float, fixed: Mapping[str, int]) -> dict[str, int]:
        """Columns that each layer keeps at this density of weights: `fixed` ones, else even.

        Raises `PatternError` if the other layers cannot make up for what `fixed` keeps.
        """
        heights = {n: len(w) for n, w in self.weights.items()}
        free = {n: k for n, k in self.sizes.items() if n not in fixed}
        room = sum(k * heights[n] for n, k in free.items())
        total = sum(w.numel() for w in self.weights.values())
        given = sum(k * heights[n] for n, k in fixed.items())
        left = density * total - given
        if not (0 < left <= room * (1 + 1e-9) if free else abs(left) <= max(heights.values())):
            raise PatternError(
                f"density {density:g} is out of reach: the layers with a level of their own keep "
                f"{given / total:.4f}, the others hold {room / total:.4f}"
            )
        even = round_counts({n: left / room * k for n, k in free.items()}, free, heights)
        return {**fixed, **even}

    def norms(self) -> dict[str, Tensor]:
        """L1 norm of every column, (columns,) on the CPU."""
        return {n: w.detach().abs().flatten(1).sum(0).cpu() for n, w in self.weights.items()}

    def masks(self, keep: Mapping[str, Tensor]) -> Masks:
        """The masks that hold columns at zero for good; `keep`: bool (columns,)."""
        column = Pattern("column")
        shapes = {n: tuple(self.weights[n].shape) for n in keep}
        return Masks(
            {n: expand(k.to(self.weights[n].device), shapes[n], column) for n, k in keep.items()}
        )

    def without(self, keep: Mapping[str, Tensor]) -> nn.Module:
        """The net itself, with the columns that are not kept at zero."""
        self.masks(keep).apply_(self.model)
        return self.model

    def seen(self, own: Mapping[str, Tensor], keep: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights times `keep`: (1, columns), or (outputs, columns) for single weights."""
        return {n: own[n] * k.to(own[n]).view(-1, *own[n].shape[1:]) for n, k in keep.items()}


class Channels:
    """The sets of coupled channels; a set is named as in `channels.groups`."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        """`shape`: of one input (C, H, W). Raises `SurgeryError` for a net that has none."""
        self.model, self.shape, weights = model, shape, prunable(model)
        self.groups = {group.name: group for group in channels.groups(model, shape)}
        self.sizes = {n: group.size for n, group in self.groups.items()}
        self.linear = {n for n, g in self.groups.items() if weights[g.producers[0]].dim() < 3}

    def kept(self, density: float, fixed: Mapping[str, int]) -> dict[str, int]:
        """Channels that each set keeps: `fixed` ones, else even; nearest to the density of weights.

        Raises `PatternError` if that is out of reach.
        """
        kept: dict[str, int] = {}

        def allocation(fraction: float) -> dict[str, int]:
            one = dict.fromkeys(self.sizes, 1)
            even = round_counts({n: fraction * k for n, k in self.sizes.items()}, self.sizes, one)
            kept.update({**even, **fixed})
            return dict(kept)

        # the search ends with its choice; which channels go does not change what they weigh
        remove_channels(self.model, magnitudes(self.model), density, allocation, self.shape)
        return kept

    def norms(self) -> dict[str, Tensor]:
        """L1 norm of the weights that make each channel, (channels,) on the CPU."""
        sizes = magnitudes(self.model)
        return {n: channels.scores(group, sizes).cpu() for n, group in self.groups.items()}

    def masks(self, keep: Mapping[str, Tensor]) -> Masks:
        """None: what is not kept goes, and until then is not seen."""
        return Masks()

    def without(self, keep: Mapping[str, Tensor]) -> nn.Module:
        """A smaller copy of the net; `keep`: bool (channels,)."""
        return channels.shrink(self.model, self.shape, keep)

    def seen(self, own: Mapping[str, Tensor], keep: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All that makes or reads a channel, times `keep`: (1, channels)."""
        seen: dict[str, Tensor] = {}
        for name, kept in keep.items():
            for place in self.groups[name].slices:
                tensor = seen.get(place.name, own.get(place.name))
                if tensor is None:  # a running statistic
                    continue
                factor = torch.ones(tensor.shape[place.axis])
                factor[place.index] = kept.float().view(-1, 1)
                after = [1] * (tensor.dim() - place.axis - 1)
                seen[place.name] = tensor * factor.to(tensor).view(-1, *after)
        return seen


View = Columns | Channels


def levels(
    sizes: Mapping[str, int], pruned: Mapping[str, float], dense: set[str]
) -> dict[str, int]:
    """Groups that layers with a level of their own keep: R of them pruned, rounded up; or `dense`.

    Raises `PatternError` for a name that is not in `sizes`.
    """
    if unknown := sorted(set(pruned) - set(sizes)):
        raise PatternError(f"no layer {', '.join(unknown)}; there are: {', '.join(sizes)}")
    own = {n: sizes[n] - math.ceil(R * sizes[n] - 1e-9) for n, R in pruned.items()}
    return {n: sizes[n] for n in dense} | {n: max(1, k) for n, k in own.items()}
