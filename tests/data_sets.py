"""Small data sets that tests write, damage and read back."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch


def write_arrays(path: Path, samples: int = 200, classes: int = 4, shape=(9, 7, 3)) -> Path:
    random = np.random.default_rng(0)
    path.mkdir(parents=True)
    for part, count in (("train", samples), ("test", samples // 4)):
        np.save(path / f"{part}_images.npy", random.integers(0, 256, (count, *shape), np.uint8))
        np.save(path / f"{part}_labels.npy", np.arange(count, dtype=np.uint8) % classes)
    return sign(path)


def sign(path: Path) -> Path:
    lines = [f"{sha256(file)}  {file.name}\n" for file in sorted(path.glob("*.npy"))]
    (path / "SHA256SUMS").write_text("".join(lines))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_folder(path: Path, classes=("ape", "bee", "cat"), train=20, size=(14, 14)) -> Path:
    from PIL import Image

    random = np.random.default_rng(1)
    for part, count in (("train", train), ("val", 4)):
        for name in classes:
            (path / part / name).mkdir(parents=True)
            for i in range(count):
                image = random.integers(0, 256, (size[1], size[0], 3), np.uint8)
                Image.fromarray(image).save(path / part / name / f"{name}_{part}_{i}.PNG")
    return path


def everything(split, batch_size=16, order=None):
    images, labels = zip(*split.batches(batch_size, order), strict=True)
    return torch.cat(images), torch.cat(labels)


def snapshot(path: Path) -> dict[str, str]:
    return {str(p.relative_to(path)): sha256(p) for p in path.rglob("*") if p.is_file()}


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])
