"""Augmentation of whole batches on the device that holds them; one draw per image or node."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

PAD = 4
"""Pixels of reflect padding on each side before the random crop."""
NOISE = 0.05
"""Deviation of the noise on a field, whose training frames have a root mean square of 1."""


def augment(images: Tensor, which: Collection[str], generator: torch.Generator) -> Tensor:
    """`images` (B, C, H, W) with what `which` names; a new tensor.

    Of uint8 "crop" and "flip", of a float32 field (the frames, last the speed) "noise".

    crop: pad by 4 pixels of reflection, then cut the old size at a random place. flip: mirror left
    and right with probability 1/2. The crop comes first, whatever the order in `which`. noise: a
    normal number of deviation 0.05 on each node of each frame: a net that will be fed with its own
    predictions learns to mend them (Sanchez-Gonzalez et al., ICML 2020). All draws are made by
    `generator` on the CPU, so every device sees the same ones.

    Raises:
        ValueError: an unknown name; a crop of an image too small to reflect 4 pixels; one that is
            not for such inputs.
    """
    if unknown := set(which) - {"crop", "flip", "noise"}:
        raise ValueError(f"unknown augmentation {sorted(unknown)[0]!r}; known: crop, flip, noise")
    field = images.is_floating_point()
    if wrong := set(which) & ({"crop", "flip"} if field else {"noise"}):
        raise ValueError(
            f"{sorted(wrong)[0]} is no augmentation of {'fields' if field else 'bytes'}"
        )
    if field:
        drawn = torch.randn(images[:, :-1].shape, generator=generator).to(images.device)
        return torch.cat([images[:, :-1] + NOISE * drawn, images[:, -1:]], 1)
    batch, channels, height, width = images.shape
    rows = torch.arange(height).expand(batch, height)
    columns = torch.arange(width).expand(batch, width)
    if "crop" in which:
        if min(height, width) <= PAD:
            raise ValueError(f"crop: {height}x{width} images have no {PAD} pixels to reflect")
        offset = torch.randint(-PAD, PAD + 1, (2, batch, 1), generator=generator)
        rows, columns = _reflect(rows + offset[0], height), _reflect(columns + offset[1], width)
    if "flip" in which:
        flipped = torch.randint(0, 2, (batch, 1), generator=generator).bool()
        columns = torch.where(flipped, columns.flip(1), columns)
    # One gather does both: position (y, x) of the result is (rows[y], columns[x]) of the image.
    source = (rows[:, :, None] * width + columns[:, None, :]).flatten(1).to(images.device)
    source = source[:, None].expand(batch, channels, height * width)
    return images.flatten(2).gather(2, source).view(images.shape)


def _reflect(index: Tensor, size: int) -> Tensor:
    """`index` folded back into [0, size) without repeating the border pixel."""
    index = index.abs()
    return torch.where(index < size, index, 2 * (size - 1) - index)
