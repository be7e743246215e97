"""A quantiser whose step, range and shape are learned: DJPQ's.

With a = |x|, step d, range q_m, exponent t and dead zone q_s:

    v = 0 where a <= q_s;  (a - q_s)^t;  (q_m - q_s)^t where a >= q_m                     (1)
    x_q = sign(x) d round(v / d)                                                          (2)
    b = log2((q_m - q_s)^t / d + 1), and 1 more for a sign                                (3)

t = 1 is uniform quantisation. The rounding passes gradients straight through, so that
dx_q/dd = sign(x) (round(v / d) - v / d), and q_m and t learn through v; what x itself gets is 1
within the range and 0 beyond it.                                                         (4)

Wang, Lu, Blankevoort, "Differentiable Joint Pruning and Quantization", ECCV 2020, with the gradient
rules that Microsoft's GETA ascribes to it. That values which are never negative have neither sign
nor sign bit is recalled; GETA counts the bit for all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SMALLEST = 1e-6
"""Least distance between the range and the dead zone at the start."""
LAST = 1e-4
"""Bits by which a quantiser with one level beside zero may seem to have more, by rounding."""


@dataclass
class Levels:
    """The quantiser of one tensor.

    `log_step`, `log_reach` and `log_power` are scalars that learn: ln d, ln(q_m - q_s) and ln t, so
    that none of the three can leave what makes sense, and that one rate fits tensors of any size.
    `dead` is q_s; `signed`: whether values below zero occur; `power_of_two`: bits are rounded to 2,
    4, 8, 16 or 32, and the step follows.
    """

    log_step: nn.Parameter
    log_reach: nn.Parameter
    log_power: nn.Parameter
    signed: bool
    dead: float = 0.0
    power_of_two: bool = False

    @classmethod
    def uniform(
        cls, largest: Tensor, bits: float, signed: bool, dead: float, power_of_two: bool
    ) -> Levels:
        """Evenly spaced levels of so many `bits` up to `largest`, a scalar."""
        reach = (largest.detach().float() - dead).clamp_min(SMALLEST).log()
        step = reach - math.log(2 ** (bits - int(signed)) - 1)
        learned = [nn.Parameter(x) for x in (step, reach.clone(), torch.zeros_like(reach))]
        return cls(learned[0], learned[1], learned[2], signed, dead, power_of_two)

    @property
    def reach(self) -> Tensor:
        """The range, q_m."""
        return self.log_reach.exp() + self.dead

    @property
    def power(self) -> Tensor:
        """The exponent, t."""
        return self.log_power.exp()

    @property
    def end(self) -> Tensor:
        """(q_m - q_s)^t, where the levels end."""
        return (self.log_reach * self.power).exp()

    @property
    def bits(self) -> Tensor:
        """(3), a real number; a power of two, with the same gradient, where it has to be.

        Without a gradient at one level beside zero: there is nothing to save, and a range that is
        pushed on would shrink to nothing.
        """
        own = torch.log2(self.end / self._own_step + 1) + int(self.signed)
        own = torch.where(own > 1 + int(self.signed) + LAST, own, own.detach())
        if not self.power_of_two:
            return own
        whole = 2 ** torch.log2(own.clamp(2, 32)).round()
        return own + (whole - own).detach()

    @property
    def step(self) -> Tensor:
        """d; where bits have to be a power of two, the one for these, with the gradient of d."""
        if not self.power_of_two:
            return self._own_step
        exact = self.end / (2 ** (self.bits - int(self.signed)) - 1)
        return self._own_step + (exact - self._own_step).detach()

    @property
    def _own_step(self) -> Tensor:
        """At most `end`, so that there is a level beside zero; with the gradient of d all the same.

        Without that, two bits would be a door that opens one way only.
        """
        own = self.log_step.exp()
        return own - (own - self.end).clamp_min(0).detach()

    @torch.no_grad()
    def hold(self) -> None:
        """After a step of the optimiser: bring d back to where there is a level beside zero."""
        self.log_step.copy_(torch.minimum(self.log_step, self.log_reach * self.power))

    @torch.no_grad()
    def scale(self, factor: float) -> None:
        """As many levels, for values that have grown by `factor`; they grow by `factor`^t."""
        self.log_reach.add_(math.log(factor))
        self.log_step.add_(math.log(factor) * self.power)

    def __call__(self, x: Tensor) -> Tensor:
        """(2) with the gradients (4), of the shape and dtype of `x`."""
        return quantise(x, self.step, self.reach, self.power, self.dead, self.signed)


def quantise(
    x: Tensor, step: Tensor, reach: Tensor, power: Tensor, dead: float, signed: bool
) -> Tensor:
    """Equations (1) and (2) with the gradients (4), computed in float32.

    `step`, `reach`, `power`: scalars d > 0, q_m > q_s (`dead`), t > 0. Without a sign, values below
    zero become zero.
    """
    values = x.float() if signed else x.float().clamp_min(0)
    size, sign = values.detach().abs(), values.detach().sign()  # x has its own way back, below
    above = torch.where(size < reach, (size - dead).clamp_min(0), reach - dead)
    level = above**power / step
    level = level + (level.round() - level).detach()
    passed = values * (size <= reach)
    return (sign * (step * level) + (passed - passed.detach())).to(x.dtype)
