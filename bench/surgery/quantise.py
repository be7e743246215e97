"""Weights on few levels, with gradients that pass the rounding.

The values of a quantised weight are exact: the gradient's path adds zero to them.

| kind | a kept weight becomes, mode `ste` | mode `author`, the code of DPP's authors |
| --- | --- | --- |
| int8 | round(c w) / c, c = 127.5 / max w | round(c w), with the gradient of c h(w) |
| ternary | 0 below 0.7 mean w, else -a or a, a = mean of those | the same, of h(w) |
| binary | -a or a, a = mean w | -1 or 1, of h(w) |

Maxima, means and thresholds are those of |w|, over the kept weights of the tensor;
h(w) = clip(0.4 w, -1, 1), Keras' hard tanh. Ternary: Li and Liu, "Ternary Weight Networks", 2016;
the scale of binary: Rastegari et al., "XNOR-Net", ECCV 2016 (both from memory).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Kind = Literal["int8", "ternary", "binary"]
Mode = Literal["ste", "author"]

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
        return _through(binary(weight, ones, mode), weight, mode) * ones
    masked = weight * ones
    if kind == "ternary":
        return _through(ternary(masked, ones), masked, mode)
    scale = 127.5 / masked.detach().abs().max().clamp_min(torch.finfo(weight.dtype).tiny)
    levels = torch.round(scale * masked.detach()).clamp(-LEVEL, LEVEL)
    if mode == "author":
        return _exact(levels, scale * surrogate(masked))
    return _exact(levels / scale, masked)


@torch.no_grad()
def binary(weight: Tensor, mask: Tensor, mode: Mode = "ste") -> Tensor:
    """The sign of every weight, zero counting as positive, times a."""
    signs = torch.where(weight < 0, -1.0, 1.0).to(weight.dtype)
    return signs if mode == "author" else signs * _mean(weight.abs(), mask)


@torch.no_grad()
def ternary(weight: Tensor, mask: Tensor) -> Tensor:
    """-a, 0 or a: zero below 0.7 times the mean |w|, a the mean of what is above."""
    size = weight.abs() * mask
    large = (size > 0.7 * _mean(size, mask)).to(weight.dtype)
    return weight.sign() * large * _mean(size, large)


def _mean(size: Tensor, counted: Tensor) -> Tensor:
    return (size * counted).sum() / counted.sum().clamp_min(1)


def _through(values: Tensor, weight: Tensor, mode: Mode) -> Tensor:
    return _exact(values, surrogate(weight) if mode == "author" else weight)


def _exact(values: Tensor, path: Tensor) -> Tensor:
    """`values`, with the gradient of `path`."""
    return values + (path - path.detach())
