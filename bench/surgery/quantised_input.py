"""Layers that quantise what they read: torch's own, with a quantiser in front.

    quantise_input(layer, levels)        # in place; the layer stays what it is otherwise
    input_bits(layer)                    # 8; None: it reads what it is given

The weights need nothing of the kind: quantised, they are simply values on few levels.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from bench.surgery.learned_levels import Levels, quantise

WHOLE = 32
"""Bits of what no quantiser stands before."""


class InputQuantiser(nn.Module):
    """Puts its input on fixed levels; `step`, `reach`, `power` are buffers (see `learned_levels`).

    Unsigned ones make zeros of negative values.
    """

    step: Tensor
    reach: Tensor
    power: Tensor

    def __init__(self, signed: bool, dead: float = 0.0) -> None:
        super().__init__()
        self.signed, self.dead = signed, dead
        for name in ("step", "reach", "power"):
            self.register_buffer(name, torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """`x` on its levels, of the same shape and dtype."""
        return quantise(x, self.step, self.reach, self.power, self.dead, self.signed)

    @property
    def bits(self) -> int | None:
        """Of the smallest integer that tells its levels apart; None where its range is no range."""
        reach, power = float(self.reach) - self.dead, float(self.power)
        if not (reach > 0 and power > 0 and self.step > 0):
            return None
        levels = round(reach**power / float(self.step)) * (1 + self.signed) + 1
        return max(1, math.ceil(math.log2(levels)))


class QuantisedInput(nn.Module):
    """What a layer inherits from, before its own class, to read its input through a quantiser."""

    input_quantiser: InputQuantiser

    def forward(self, x: Tensor) -> Tensor:
        """The layer's own function of the quantised `x`."""
        return super().forward(self.input_quantiser(x))


@cache
def _quantised(kind: Any) -> Any:
    return type(f"Quantised{kind.__name__}", (QuantisedInput, kind), {})


def plain(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of a layer without what `quantise_input` did to it."""
    return kind.__bases__[1] if kind.__bases__[:1] == (QuantisedInput,) else kind


def attach(layer: nn.Module, signed: bool, dead: float) -> None:
    """Put a quantiser with unset levels in front of `layer`, in place."""
    kind: Any = type(layer)
    layer.__class__ = _quantised(kind)
    layer.input_quantiser = InputQuantiser(signed, dead)


@torch.no_grad()
def quantise_input(layer: nn.Module, levels: Levels) -> None:
    """Let `layer`, which has one input, read it on these levels; in place."""
    attach(layer, levels.signed, levels.dead)
    own: Any = layer.input_quantiser
    own.to(levels.reach.device)
    for name in ("step", "reach", "power"):
        getattr(own, name).copy_(getattr(levels, name))


def arguments(layer: nn.Module) -> dict[str, Any] | None:
    """What `attach` was called with; None for a layer without a quantiser."""
    if not isinstance(layer, QuantisedInput):
        return None
    return {"signed": layer.input_quantiser.signed, "dead": layer.input_quantiser.dead}


def input_bits(layer: nn.Module) -> int | None:
    """Bits of what `layer` reads, where it quantises that; else None."""
    return layer.input_quantiser.bits if isinstance(layer, QuantisedInput) else None
