"""Images read from files and cut to one size: all into memory, or by DataLoader workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.data.dataset import Labelled
from bench.data.source import DataError, Files

WORKERS = min(8, len(os.sched_getaffinity(0)))


def decode(path: Path, size: int) -> np.ndarray:
    """The image in `path` as uint8 `(3, size, size)`.

    An image of that very size is taken as it is; any other is resized (bilinear, antialiased) until
    its shorter side is 8/7 of `size`, the 256 to 224 of ImageNet, and cut at the centre.
    """
    from PIL import Image

    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: cannot be decoded: {error}. The file is truncated or no image: "
            "put the original there; nothing was changed or deleted"
        ) from None
    if image.size != (size, size):
        shorter = round(size * 8 / 7)
        scale = shorter / min(image.size)
        width, height = (max(shorter, int(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = round((width - size) / 2), round((height - size) / 2)
        image = image.crop((left, top, left + size, top + size))
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def decode_all(files: Files) -> np.ndarray:
    """All images, uint8 `(N, 3, size, size)`, in their order."""
    images = np.empty((len(files), 3, files.size, files.size), np.uint8)

    def fill(position: int) -> None:
        images[position] = decode(files.paths[position], files.size)

    with ThreadPoolExecutor(
        WORKERS
    ) as pool:  # Pillow decodes and resizes outside the interpreter lock
        for _ in pool.map(fill, range(len(files))):
            pass
    return images


class FileSplit(Labelled):
    """A split that stays on disk; `workers` processes read ahead (0: none)."""

    def __init__(
        self, files: Files, labels: Tensor, device: torch.device, workers: int = WORKERS
    ) -> None:
        super().__init__(labels.to(device))
        self.files, self.device, self.workers = files, device, workers

    def _take(self, chunks: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        loader = torch.utils.data.DataLoader(
            _Decoded(self.files),
            batch_sampler=[chunk.tolist() for chunk in chunks],
            num_workers=min(self.workers, len(chunks)),
            collate_fn=_stack,
            pin_memory=self.device.type == "cuda",
            # Without one of its own, a loader draws its workers' seeds from the global generator.
            generator=torch.Generator(),
        )
        for images, chunk in zip(loader, chunks, strict=True):
            if isinstance(images, str):
                raise DataError(images)
            yield images.to(self.device, non_blocking=True), self.labels[chunk.to(self.device)]


class _Decoded(torch.utils.data.Dataset[np.ndarray | str]):
    """Decoded images; in place of one that fails its message: workers garble exceptions."""

    def __init__(self, files: Files) -> None:
        self.files = files

    def __getitem__(self, index: int) -> np.ndarray | str:
        try:
            return decode(self.files.paths[index], self.files.size)
        except DataError as error:
            return str(error)


def _stack(items: list[np.ndarray | str]) -> Tensor | str:
    for item in items:
        if isinstance(item, str):
            return item
    return torch.from_numpy(np.stack(items))
