"""Weights on few levels, with gradients that pass the rounding.

The values of a quantised weight are exact: the gradient's path adds zero to them.

| kind | a kept weight becomes | in the code of DPP's authors |
| --- | --- | --- |
| int8 | round(c w) / c, c = 127.5 / max w, at most 127 levels up and down | round(c w), up to 128 |
| ternary | 0 below 0.7 mean w, else -a or a, a = mean of those | not there |
| binary | -a or a, a = mean w | -1 or 1 |

Maxima, means and thresholds are those of |w|, over the kept weights of the tensor. The gradient is
that of w (mode `ste`), or of the authors' h(w) = clip(0.4 w, -1, 1), Keras' hard tanh (mode
`author`). Their integer scale is not kept in either mode: nets without normalisation do not train
on it. Ternary: Li and Liu, "Ternary Weight Networks", 2016; the scale of binary: Rastegari et al.,
"XNOR-Net", ECCV 2016 (both from memory).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Kind = Literal["int8", "ternary", "binary"]
Mode = Literal["ste", "author"]
"""The gradient that passes the rounding: slope 1 everywhere, or the authors' h."""

SLOPE = 0.4
LEVEL = 127
"""Largest level of int8; the extreme value, 127.5 once scaled, would round to 128, a ninth bit."""


def surrogate(weight: Tensor) -> Tensor:
    """h(w) = clip(0.4 w, -1, 1), whose gradient ends where |w| = 2.5."""
    return (SLOPE * weight).clamp(-1, 1)


def quantise(weight: Tensor, kind: Kind, mask: Tensor | None = None, mode: Mode = "ste") -> Tensor:
    """`weight` times `mask` on the levels of `kind`; exact zeros where the mask is zero.

    `mask` holds zeros and ones and broadcasts to the weight's shape; it may carry a gradient. A
    kept weight that int8 or ternary round to zero is zero, too.
    """
    ones = torch.ones_like(weight) if mask is None else mask.expand_as(weight)
    if kind == "binary":
        # the sign first: a masked weight has none
        return _through(binary(weight, ones), weight, mode) * ones
    masked = weight * ones
    return _through((ternary if kind == "ternary" else int8)(masked, ones), masked, mode)


@torch.no_grad()
def int8(weight: Tensor, mask: Tensor) -> Tensor:
    """The nearest of 255 levels, the largest |w| being half a level beyond the last."""
    scale = 127.5 / (weight * mask).abs().max().clamp_min(1e-30)  # of zeros: finite
    return torch.round(scale * weight).clamp(-LEVEL, LEVEL) / scale


@torch.no_grad()
def binary(weight: Tensor, mask: Tensor) -> Tensor:
    """The sign of every weight, zero counting as positive, times a."""
    return torch.where(weight < 0, -1.0, 1.0).to(weight.dtype) * _mean(weight.abs(), mask)


@torch.no_grad()
def ternary(weight: Tensor, mask: Tensor) -> Tensor:
    """-a, 0 or a: zero below 0.7 times the mean |w|, a the mean of what is above."""
    size = weight.abs() * mask
    large = (size > 0.7 * _mean(size, mask)).to(weight.dtype)
    return weight.sign() * large * _mean(size, large)


def _mean(size: Tensor, counted: Tensor) -> Tensor:
    return (size * counted).sum() / counted.sum().clamp_min(1)


def _through(values: Tensor, weight: Tensor, mode: Mode) -> Tensor:
    """`values`, with the gradient of `weight` or of its surrogate."""
    path = surrogate(weight) if mode == "author" else weight
    return values + (path - path.detach())
