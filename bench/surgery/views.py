"""A net as it would be without some of its groups, for methods that draw or learn who goes.

A group is a column of a layer's matrix (see `patterns` for what that is), or a channel with all
that belongs to it (see `channels`). Nothing is changed: `seen` gives what a forward pass should use
in the place of the parameters (`trainer.fit(through=...)`), so gradients reach the stored ones.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from bench.surgery import channels
from bench.surgery.allocation import one_threshold, round_counts
from bench.surgery.layers import TRANSPOSED, prunable
from bench.surgery.masks import Masks, magnitudes
from bench.surgery.patterns import Pattern, PatternError, expand, keep_top
from bench.surgery.prune import channel_counts, density_of, even_counts


class Columns:
    """The columns of every prunable weight; a layer is named by its weight.

    One input tap of all outputs; of a transposed, grouped or depthwise convolution, and of a
    recurrent layer, what `patterns` says.
    """

    def __init__(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        """`shape`: of one input (C, H, W); columns do not need it, `Channels` does."""
        self.model, self.weights = model, prunable(model)
        self.sizes = {n: w[0].numel() for n, w in self.weights.items()}
        self.linear = {n for n, w in self.weights.items() if w.dim() < 3}

    def kept(self, density: float, fixed: Mapping[str, int]) -> dict[str, int]:
        """Columns that each layer keeps at this density of weights: `fixed` ones, else even.

        Raises `PatternError` if the other layers cannot make up for what `fixed` keeps, or if there
        are none and it misses the density by more than a column.
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

    def norms(self, names: Iterable[str]) -> dict[str, Tensor]:
        """L1 norm of every column of these layers, (columns,) on the CPU."""
        weights = {n: self.weights[n].detach() for n in names}
        return moved({n: w.abs().flatten(1).sum(0) for n, w in weights.items()}, "cpu")

    def masks(self, keep: Mapping[str, Tensor]) -> Masks:
        """The masks that hold all but the columns to `keep` (bool, (columns,)) at zero."""
        column = Pattern("column")
        kept = {n: k.to(self.weights[n].device) for n, k in keep.items()}
        return Masks({n: expand(k, tuple(self.weights[n].shape), column) for n, k in kept.items()})

    def without(self, keep: Mapping[str, Tensor]) -> tuple[nn.Module, Masks]:
        """The net itself with the other columns at zero, and the masks that hold them there."""
        masks = self.masks(keep)
        masks.apply_(self.model)
        return self.model, masks

    def seen(self, own: Mapping[str, Tensor], keep: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights times `keep`: of (columns,) entries, or of a weight's in its own order."""
        kept = moved(keep, next(iter(own.values())).device)
        return {n: own[n] * k.to(own[n]).view(-1, *own[n].shape[1:]) for n, k in kept.items()}


class Channels:
    """The sets of coupled channels; a set is named as in `channels.groups`."""

    def __init__(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        """`shape`: of one input (C, H, W). Raises `SurgeryError` for a net that has none."""
        self.model, self.shape, weights = model, shape, prunable(model)
        self.groups = {group.name: group for group in channels.groups(model, shape)}
        self.sizes = {n: group.size for n, group in self.groups.items()}
        self.linear = {n for n, g in self.groups.items() if weights[g.producers[0]].dim() < 3}
        turned = (n for n, m in model.named_modules() if isinstance(m, TRANSPOSED))
        self.turned = {f"{n}.weight" for n in turned}
        parameters = dict(model.named_parameters())
        self.places: dict[tuple[str, int], list[tuple[str, Tensor]]] = defaultdict(list)
        self.filters: set[tuple[str, int]] = set()
        """Of these, where a weight makes the channels."""
        for group in self.groups.values():
            for place in group.slices:
                if place.name in parameters:  # not a running statistic
                    index = place.index.to(parameters[place.name].device)
                    self.places[place.name, place.axis].append((group.name, index))
                    if place.output and place.name in group.producers:
                        self.filters.add((place.name, place.axis))

    def kept(self, density: float, fixed: Mapping[str, int]) -> dict[str, int]:
        """Channels that each set keeps: `fixed` ones, else even; nearest to the density of weights.

        Raises `PatternError` if that is out of reach; where all sets are fixed, if they miss it by
        more than a channel.
        """
        groups = list(self.groups.values())
        if set(fixed) < set(self.sizes):
            return channel_counts(
                self.model, groups, density, lambda part: {**even_counts(groups, part), **fixed}
            )
        reached = density_of(self.model, groups, fixed)
        less = [density_of(self.model, groups, {**fixed, n: k - 1}) for n, k in fixed.items()]
        if abs(reached - density) > reached - min(less):
            raise PatternError(
                f"density {density:g} is out of reach: every set of channels has a level of its "
                f"own, and together they keep {reached:.4f}"
            )
        return dict(fixed)

    def best(self, scores: Mapping[str, Tensor], density: float) -> dict[str, Tensor]:
        """The channels to keep, bool (channels,): those above one threshold over all sets' scores.

        `scores`: (channels,), larger is kept; a set without any stays whole, the others keep at
        least one channel. Nearest to the density of weights; raises `PatternError` if that is out
        of reach.
        """
        one = dict.fromkeys(scores, 1)
        counts = channel_counts(
            self.model,
            list(self.groups.values()),
            density,
            lambda fraction: self.sizes | one_threshold(dict(scores), one, fraction),
        )
        return {n: keep_top(s, counts[n]) for n, s in scores.items()}

    def norms(self, names: Iterable[str]) -> dict[str, Tensor]:
        """L1 norm of the weights that make each channel of these sets, (channels,) on the CPU."""
        sizes = magnitudes(self.model)
        return moved({n: channels.scores(self.groups[n], sizes) for n in names}, "cpu")

    def masks(self, keep: Mapping[str, Tensor]) -> Masks:
        """None: what is not kept goes, and until then is not seen."""
        return Masks()

    def without(self, keep: Mapping[str, Tensor]) -> tuple[nn.Module, Masks]:
        """A smaller copy of the net, with the channels to `keep` (bool, (channels,)); no masks."""
        return channels.shrink(self.model, self.shape, keep), Masks()

    def seen(
        self, own: Mapping[str, Tensor], keep: Mapping[str, Tensor], filters: bool = False
    ) -> dict[str, Tensor]:
        """All that makes or reads a channel, times `keep` (channels,).

        A channel that is 0 in all of these gets no gradient: each is a product with another 0.
        `filters`: only the weights that make it, which then get one.
        """
        kept = moved(keep, next(iter(own.values())).device)
        seen: dict[str, Tensor] = {}
        for (name, axis), places in self.places.items():
            if filters and (name, axis) not in self.filters:
                continue
            tensor = seen.get(name, own.get(name))
            chosen = [(kept[group], index) for group, index in places if group in kept]
            if tensor is None or not chosen:
                continue
            factor = tensor.new_ones(tensor.shape[axis])
            for part, index in chosen:
                factor[index] = part.to(factor).view(-1, 1)
            seen[name] = tensor * factor.view(-1, *[1] * (tensor.dim() - axis - 1))
        return seen

    def left(self, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The share of each prunable weight whose outputs and inputs both stay, scalars.

        `kept`: how surely each channel stays, (channels,) in [0, 1]; it may carry a gradient.
        """
        shares = {n: torch.ones((), device=w.device) for n, w in prunable(self.model).items()}
        for (name, axis), places in self.places.items():
            if name in shares:
                length = self.model.get_parameter(name).shape[axis]
                parts = [(kept[g].to(shares[name]), i.numel()) for g, i in places if g in kept]
                gone = [size / length * (1 - k.mean()) for k, size in parts]
                shares[name] = shares[name] * (1 - torch.stack(gone).sum() if gone else 1)
        return shares

    def made(self, keep: Mapping[str, Tensor]) -> dict[str, int]:
        """How many outputs each prunable weight has left; `keep`: bool (channels,)."""
        widths = {}
        for name, weight in prunable(self.model).items():
            own = [(g, p) for g in self.groups for p in self.groups[g].slices if p.name == name]
            axis = next((p.axis for _, p in own if p.output), int(name in self.turned))
            gone = [int((~keep[g]).sum()) * p.index.shape[1] for g, p in own if p.output]
            widths[name] = weight.shape[axis] - sum(gone)
        return widths


View = Columns | Channels


def moved(parts: Mapping[str, Tensor], device: torch.device | str) -> dict[str, Tensor]:
    """The tensors, flat, on `device`, by one transfer."""
    if not parts:
        return {}
    flat = torch.cat([part.flatten() for part in parts.values()]).to(device)
    return dict(zip(parts, flat.split([part.numel() for part in parts.values()]), strict=True))


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
