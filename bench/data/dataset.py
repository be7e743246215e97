"""A data set as training sees it: its task, three splits, and how to normalise their inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from bench import rng
from bench.data.source import DataError, Files, Raw, Shape
from bench.data.split import cut, held_out
from bench.data.task import CLASSIFICATION, Task

if TYPE_CHECKING:
    from bench.data.source import Source

SAMPLE = 1_024
"""Training images that the mean and deviation of a set that stays on disk are estimated from."""


class Split(ABC):
    """Inputs and their targets: images and labels, or frames of a field and those after them."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of samples."""

    def batches(
        self, batch_size: int, order: Tensor | None = None, drop_last: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (images uint8 `(B, C, H, W)`, labels int64 `(B,)`), on the training device.

        Of a field (inputs float32 `(B, C, H, W)`, targets float32 `(B, 1, H, W)`), normalised.
        `order`: int64 `(M,)` on the CPU, the indices to take and in which order; none: each sample
        once, in the order of the split. The last, short batch is left out if `drop_last`.

        Raises:
            ValueError: a batch size below 1, or an `order` that is no such tensor.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        if order is None:
            order = torch.arange(len(self))
        if order.dim() != 1 or order.dtype != torch.int64 or order.device.type != "cpu":
            raise ValueError(
                f"order is {order.dtype} {tuple(order.shape)} on {order.device}; "
                "it must be int64 (M,) on the CPU"
            )
        if len(order) and not 0 <= int(order.min()) <= int(order.max()) < len(self):
            raise ValueError(f"order has an index outside 0 to {len(self) - 1}")
        chunks = list(order.split(batch_size)) if len(order) else []
        if drop_last and chunks and len(chunks[-1]) < batch_size:
            chunks.pop()
        return self._take(chunks)

    @abstractmethod
    def _take(self, chunks: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batch of each chunk of indices."""


class Labelled(Split):
    """Images and their labels; `labels` is int64 `(N,)` on the training device."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def __len__(self) -> int:
        """See `Split`."""
        return len(self.labels)


class TensorSplit(Labelled):
    """A split held whole on the training device: `images` uint8 `(N, C, H, W)`."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        super().__init__(labels)
        self.images = images

    def _take(self, chunks: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        if not chunks:
            return
        # One transfer for all batches; slices of it cost nothing.
        order = torch.cat(chunks).to(self.images.device)
        for index in order.split(len(chunks[0])):
            yield self.images[index], self.labels[index]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set on a device.

    `mean` and `std` are per channel, of the training split: of images scaled to [0, 1], of a field
    as it was read. `classes`: outputs of a net, the classes or the frames that it predicts.
    """

    name: str
    shape: Shape
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str
    digest: str
    train: Split
    validation: Split
    test: Split
    task: Task = CLASSIFICATION

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 `(B, C, H, W)` -> float32; each channel of train has mean 0 and deviation 1.

        Floats are a field, which its split holds normalised.
        """
        if images.is_floating_point():
            return images
        mean, std = _constants(self.mean, self.std, images.device)
        return images.float().sub_(mean).div_(std)


@lru_cache(maxsize=16)
def _constants(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """In bytes, `(C, 1, 1)`; kept, since a transfer per batch would make the device wait."""
    both = torch.tensor([mean, std], dtype=torch.float64).mul(255).float().to(device)
    return both[0, :, None, None], both[1, :, None, None]


def assemble(source: Source, device: torch.device) -> Dataset:
    """Read `source` and lay its splits out on `device`."""
    if source.task == "field":
        from bench.data.fields import assemble as assemble_fields

        return assemble_fields(source, device)
    raw = source.read()
    stem = source.name.partition("@")[0]  # the split of a folder does not depend on the image size
    rest, chosen = cut(raw.train_labels, held_out(len(raw.train_labels)), "split", stem)
    train = _pick(raw.train, rest)
    mean, std = statistics(train, source.name)
    labels = raw.train_labels
    return Dataset(
        name=source.name,
        shape=_shape(raw),
        classes=raw.classes,
        mean=mean,
        std=std,
        licence=source.licence,
        digest=raw.digest,
        train=_split(train, labels[rest], device),
        validation=_split(_pick(raw.train, chosen), labels[chosen], device),
        test=_split(raw.test, raw.test_labels, device),
    )


def statistics(
    images: np.ndarray | Files, name: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, deviation) per channel of `images` scaled to [0, 1].

    Exact, from counts of the 256 values; of files on disk, from a fixed sample of 1,024.
    """
    if isinstance(images, Files):
        from bench.data.stream import decode_all

        random = np.random.RandomState(rng.seed("statistics", name) & 0xFFFFFFFF)
        images = decode_all(images.pick(np.sort(random.permutation(len(images))[:SAMPLE])))
    counts = np.sum([_counts(images[i : i + 4096]) for i in range(0, len(images), 4096)], axis=0)
    values = np.arange(256) / 255
    total = counts[0].sum()
    mean = counts @ values / total
    std = np.sqrt(np.maximum(counts @ values**2 / total - mean**2, 0))
    if flat := [c for c in range(len(counts)) if np.count_nonzero(counts[c]) == 1]:
        raise DataError(
            f"{name}: channel {flat[0]} has the same value in every training image, "
            "so it cannot be normalised. Leave that channel out"
        )
    return tuple(mean.tolist()), tuple(std.tolist())


def _counts(images: np.ndarray) -> np.ndarray:
    """How often each channel has each value: int64 `(C, 256)`."""
    return np.stack([np.bincount(c.ravel(), minlength=256) for c in images.swapaxes(0, 1)])


def _pick(images: np.ndarray | Files, index: np.ndarray) -> np.ndarray | Files:
    return images.pick(index) if isinstance(images, Files) else images[index]


def _split(images: np.ndarray | Files, labels: np.ndarray, device: torch.device) -> Split:
    if isinstance(images, Files):
        from bench.data.stream import FileSplit

        return FileSplit(images, torch.from_numpy(labels), device)
    # A copy: numpy may see memory that it does not own, which torch must not.
    return TensorSplit(torch.tensor(images, device=device), torch.tensor(labels, device=device))


def _shape(raw: Raw) -> Shape:
    if isinstance(raw.train, Files):
        return 3, raw.train.size, raw.train.size
    _, channels, height, width = raw.train.shape
    return channels, height, width
