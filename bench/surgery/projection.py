"""The nearest weights in a set of sparse ones: which entries of a weight stay, layer by layer."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from bench.surgery import kernel_patterns
from bench.surgery.allocation import round_counts
from bench.surgery.layers import prunable
from bench.surgery.patterns import Pattern, PatternError, expand, keep_top, unit_scores
from bench.surgery.views import Channels

Structure = Literal["unstructured", "column", "kernel", "channel"]
"""The zero patterns that a weight can be projected onto."""


class Projection:
    """What stays of each weight at the same density everywhere."""

    def __init__(self, model: nn.Module, density: float, structure: Structure) -> None:
        weights = prunable(model)
        self.names = tuple(weights)
        column = structure == "column"
        kernel = structure == "kernel"
        self.kinds = {
            n: Pattern(
                "column" if column else "kernel" if kernel and w.dim() > 2 else "unstructured"
            )
            for n, w in weights.items()
        }
        units = {n: unit_scores(w.detach(), self.kinds[n]).numel() for n, w in weights.items()}
        sizes = {n: w.numel() // units[n] for n, w in weights.items()}
        self.counts = round_counts({n: density * u for n, u in units.items()}, units, sizes)

    def mask(self, name: str, weight: Tensor) -> Tensor:
        """Bool, of the weight's shape: the units of largest L2 norm."""
        scores = unit_scores(weight.detach().square(), self.kinds[name])
        kept = keep_top(scores, self.counts[name])
        return expand(kept, tuple(weight.shape), self.kinds[name]).view(weight.shape)


class Patterns(Projection):
    """Four entries of each 3 x 3 kernel that stays, by a library; other weights are unstructured.

    The first 3 x 3 layer, if it is the first of all, keeps all its kernels. Raises `PatternError`
    for a density that four of nine entries cannot reach.
    """

    def __init__(self, model: nn.Module, density: float, patterns: int) -> None:
        super().__init__(model, density, "unstructured")
        weights = prunable(model)
        self.square = {n for n, w in weights.items() if kernel_patterns.fits(w.shape)}
        self.library = kernel_patterns.library(
            [weights[n] for n in weights if n in self.square], patterns
        )
        self.patterns = kernel_patterns.masks(self.library)
        kept, entries = kernel_patterns.KEPT, kernel_patterns.ENTRIES
        whole = {n for n in self.names[:1] if n in self.square}
        given = sum(weights[n].numel() // entries * kept for n in whole)
        free = {n: w for n, w in weights.items() if n not in whole}
        room = sum(w.numel() for w in free.values())
        level = (density * sum(w.numel() for w in weights.values()) - given) / max(1, room)
        if not 0 < level <= (kept / entries if self.square - whole else 1):
            raise PatternError(
                f"density {density:g} is out of reach: a 3 x 3 kernel keeps {kept} of {entries} "
                f"entries or none, and the first layer all its kernels"
            )
        sizes = {n: kept if n in self.square else 1 for n in free}
        wanted = {n: level * w.numel() / sizes[n] for n, w in free.items()}
        units = {n: w.numel() // (entries if n in self.square else 1) for n, w in free.items()}
        self.counts = round_counts(wanted, units, sizes) | {
            n: weights[n].numel() // entries for n in whole
        }

    def mask(self, name: str, weight: Tensor) -> Tensor:
        """Bool, of the weight's shape."""
        if name not in self.square:
            return super().mask(name, weight)
        fitted = kernel_patterns.fitted(weight, self.patterns)
        energy = (weight.detach() * fitted).square().flatten(2).sum(2).flatten()
        kept = keep_top(energy, self.counts[name])
        return fitted & kept.view(*weight.shape[:2], 1, 1)


class Filters:
    """Channels; of a coupled set, those that its first layer chooses.

    `keep`: set -> bool (channels,), of all sets that were chosen so far.
    """

    def __init__(self, model: nn.Module, shape: tuple[int, ...], density: float) -> None:
        self.view = Channels(model, shape)
        self.counts = self.view.kept(density, {})
        self.keep: dict[str, Tensor] = {}
        made = {n for group in self.view.groups.values() for n in group.producers}
        self.names = tuple(n for n in prunable(model) if n in made)

    def mask(self, name: str, weight: Tensor) -> Tensor:
        """Bool, of the weight's shape."""
        mask = torch.ones_like(weight, dtype=torch.bool)
        for group in self.view.groups.values():
            for place in group.slices:
                if place.name != name or not place.output:
                    continue
                if name == group.producers[0]:
                    energy = weight.detach().square().movedim(place.axis, 0).flatten(1).sum(1)
                    scores = energy[place.index.to(energy.device)].sum(1)
                    self.keep[group.name] = keep_top(scores, self.counts[group.name]).cpu()
                gone = place.index[~self.keep[group.name]].flatten().to(weight.device)
                mask.index_fill_(place.axis, gone, False)
        return mask


def projection(
    model: nn.Module, shape: tuple[int, ...], density: float, structure: Structure, library: int = 0
) -> Projection | Filters:
    """The projection of every weight of `model` onto `structure` at this density of weights.

    `library`: of how many patterns the 3 x 3 kernels that stay have one; 0: they stay whole.
    """
    if structure == "channel":
        return Filters(model, shape, density)
    if library:
        return Patterns(model, density, library)
    return Projection(model, density, structure)
