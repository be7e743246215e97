"""The integers behind a quantised tensor, found in its values: nobody is asked how many bits."""

from __future__ import annotations

import torch
from torch import Tensor

BITS = 16
"""Most bits of an integer that counts as quantised."""
ROUNDING = 2e-7
"""Relative error of a ratio of two products that were rounded to float32, with some room."""
CHANCE = 1e-3
"""Most probable that values which are on no levels may seem so."""


@torch.no_grad()
def integers(values: Tensor) -> Tensor | None:
    """The k (int64, of the shape of `values`) with `values` = step * k, of the largest such step.

    None where they would need more than 16 bits, where so few values would fit by chance, for less
    than two values that are not zero, and for a dtype of 16 bits itself.
    """
    sizes = values.detach().double().abs().flatten()
    sizes = sizes[sizes > 0]
    if (
        len(sizes) < 2 or 8 * values.element_size() <= BITS
    ):  # a value alone is on the levels of its own size
        return None
    most = 2 ** (BITS - 1) - 1
    smallest = sizes.min()
    first = int(most * smallest / sizes.max() + 0.01)  # largest level that the least value can have
    if first < 1:
        return None
    least = torch.arange(1, first + 1, device=sizes.device, dtype=torch.float64)[:, None]
    some = sizes[torch.linspace(0, len(sizes) - 1, min(64, len(sizes))).long()] / smallest
    for level in least[_whole(least * some).all(1)].flatten().tolist():
        levels = sizes * (level / smallest)
        if _whole(levels).all():
            distinct = len(levels.round().unique())
            by_chance = (2 * ROUNDING * float(levels.max())) ** (distinct - 1)
            if (level - 1) * by_chance > CHANCE:
                return None
            return (values.double() * (level / smallest)).round().long()
    return None


def _whole(levels: Tensor) -> Tensor:
    return (levels - levels.round()).abs() <= ROUNDING * levels


def value_bits(values: Tensor) -> tuple[int, int]:
    """Bits of one of these values, and of one of those that are not zero.

    Those of their integers, at least 1, else of their dtype. Levels are counted from the most
    negative to the most positive that the largest one allows, zero only where it occurs, so that -a
    and a need one bit.
    """
    found = integers(values)
    if found is None:
        whole = 8 * values.element_size()
        return whole, whole
    most = 2 * int(found.abs().max())
    zero = int((found == 0).any())
    return max(1, (most + zero - 1).bit_length()), max(1, (most - 1).bit_length())
