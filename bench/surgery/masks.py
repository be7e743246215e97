"""Which weights are kept: a boolean tensor for each pruned weight, by name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.surgery.layers import prunable


class Masks(dict[str, Tensor]):
    """Parameter name -> bool tensor of the weight's shape, True where the weight is kept.

    A prunable weight without an entry is dense.
    """

    @torch.no_grad()
    def apply_(self, model: nn.Module) -> None:
        """Set every pruned weight of `model` to exact zero."""
        weights = prunable(model)
        for name, mask in self.items():
            weights[name].mul_(mask)

    def mask_gradients_(self, model: nn.Module) -> None:
        """Zero the gradient of every pruned weight, so that an optimiser leaves it at zero."""
        weights = prunable(model)
        for name, mask in self.items():
            gradient = weights[name].grad
            if gradient is not None:
                gradient.mul_(mask)

    def density(self, model: nn.Module) -> float:
        """Kept fraction of all prunable weights of `model`."""
        weights = prunable(model)
        kept = sum(int(self[n].sum()) if n in self else w.numel() for n, w in weights.items())
        return kept / sum(w.numel() for w in weights.values())

    def kept(self) -> int:
        """Weights kept in all layers."""
        return sum(int(mask.sum()) for mask in self.values())

    def collapsed(self) -> tuple[str, ...]:
        """The weights of which nothing is left."""
        return tuple(name for name, mask in self.items() if not bool(mask.any()))


def nonzero(model: nn.Module) -> Masks:
    """The masks that the zeros of `model` spell out."""
    return Masks({name: weight.detach() != 0 for name, weight in prunable(model).items()})


def magnitudes(model: nn.Module) -> dict[str, Tensor]:
    """|w| of every prunable weight."""
    return {name: weight.detach().abs() for name, weight in prunable(model).items()}


def uniform(model: nn.Module, stream: torch.Generator) -> dict[str, Tensor]:
    """A score z ~ U(0, 1) for every prunable weight, drawn from `stream` on the CPU."""
    return {
        n: torch.rand(w.shape, generator=stream).to(w.device) for n, w in prunable(model).items()
    }
