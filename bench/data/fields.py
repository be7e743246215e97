"""Trajectories of a field as samples of one-step prediction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bench.data.dataset import Dataset, Split
from bench.data.source import DataError
from bench.data.task import FIELD

if TYPE_CHECKING:
    from bench.data.wave import Trajectories


class FieldSplit(Split):
    """Whole trajectories on the training device, normalised; a sample is three frames in a row.

    `frames`: float32 `(T, F, H, W)`, `speed`: float32 `(T,)`. Sample i is of trajectory
    i // (F - 2): its input `(3, H, W)` is two neighbouring frames, the older first, and the speed
    as a constant plane, its target `(1, H, W)` the frame after them.
    """

    def __init__(self, frames: Tensor, speed: Tensor) -> None:
        self.frames, self.speed = frames, speed
        self.each = frames.shape[1] - 2

    def __len__(self) -> int:
        """See `Split`."""
        return len(self.frames) * self.each

    def _take(self, chunks: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for chunk in chunks:
            index = chunk.to(self.frames.device)
            of, at = index // self.each, index % self.each
            before, last, after = (self.frames[of, at + k] for k in range(3))
            plane = self.speed[of][:, None, None].expand_as(last)
            yield torch.stack([before, last, plane], 1), after[:, None]


def assemble(source: Any, device: torch.device) -> Dataset:
    """Read the trajectories of `source` and lay its splits out on `device`, normalised.

    Frames are divided by the training frames' root mean square, so nothing stays nothing and no
    relative error changes; speeds are centred, and divided by their deviation. A trajectory needs
    three frames and each frame a norm: otherwise `DataError`.
    """
    fields = source.trajectories()
    shape, frames_out = source.geometry()
    parts = {name: getattr(fields, name) for name in ("train", "validation", "test")}
    for name, part in parts.items():
        if part.frames.shape[1] < 3 or not np.abs(part.frames).max(axis=(2, 3)).all():
            raise DataError(
                f"{source.name}: a trajectory of {name} has fewer than three frames or a frame of "
                "zeros only, of which no relative error can be taken"
            )
    scale = float(np.sqrt(np.square(fields.train.frames, dtype=np.float64).mean()))
    mean, std = (float(f(fields.train.speed.astype(np.float64))) for f in (np.mean, np.std))

    def split(part: Trajectories) -> FieldSplit:
        frames = torch.tensor(part.frames / np.float32(scale), device=device)
        speed = torch.tensor((part.speed - np.float32(mean)) / np.float32(std or 1), device=device)
        return FieldSplit(frames, speed)

    return Dataset(
        name=source.name,
        shape=shape,
        classes=frames_out,
        mean=(0.0, 0.0, mean),
        std=(scale, scale, std or 1.0),
        licence=source.licence,
        digest=fields.digest,
        train=split(fields.train),
        validation=split(fields.validation),
        test=split(fields.test),
        task=FIELD,
    )
