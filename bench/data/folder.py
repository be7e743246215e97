"""Folders of images in ImageNet layout, `{train,val}/<class>/...`, and Tiny-ImageNet-200.

`val` is the test split; validation is cut out of `train`. `folder:<name>@<size>` sets the size.
A set of at most 2 GiB of pixels is held in memory, a bigger one stays on disk.
"""

from __future__ import annotations

import hashlib
import os
import statistics
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from bench.data.arrays import first_line
from bench.data.source import (
    DataError,
    Files,
    Pin,
    Raw,
    Shape,
    Source,
    attempt,
    digest,
    sums,
)

NAMES = ("tiny_imagenet_200",)
PREFIX = "folder"

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}
IN_MEMORY = 2 << 30
"""Bytes of pixels up to which a set is decoded once and held; 1.3 GiB are Tiny-ImageNet-200."""
CONTENTS = 1 << 30
"""Bytes of files up to which the digest covers their contents, not only names and sizes."""
LARGEST = 224
"""Default for big images: the size that ImageNet nets are trained at."""

Listing = list[tuple[Path, int]]
"""Files and the index of their class, sorted."""


def source(name: str, root: Path) -> Source:
    """`folder:<name>`, `folder:<name>@<size>` or `tiny_imagenet_200` under `root`."""
    if name in NAMES:
        return TinyImageNet(name, root)
    folder, _, size = name.removeprefix(f"{PREFIX}:").partition("@")
    return ImageFolder(name, root, root / folder, int(size) if size else None)


class ImageFolder(Source):
    """A folder of images; `size` none: the usual shorter side of its images, at most 224."""

    def __init__(self, name: str, root: Path, folder: Path, size: int | None) -> None:
        super().__init__(name, root)
        self.folder, self.size = folder, size
        self.licence = first_line(folder)

    def missing(self) -> str | None:
        """See `Source`."""
        for part in ("train", "val"):
            if not (self.folder / part).is_dir():
                return (
                    f"{self.folder / part}: no such folder. Put the images there as "
                    f"{part}/<class>/<image>, or correct data_root"
                )
        return None

    def geometry(self) -> tuple[Shape, int]:
        """See `Source`; reads the headers of one image of each class."""
        size = self.size or self._usual_size()
        return (3, size, size), len(self._classes)

    def read(self) -> Raw:
        """See `Source`."""
        import numpy as np

        train, test = self._train, self._test(self._classes)
        self._check(train, test)
        (_, _, size), classes = self.geometry()
        images = [Files(tuple(path for path, _ in part), size) for part in (train, test)]
        labels = [np.array([label for _, label in part], dtype=np.int64) for part in (train, test)]
        identity = self._digest(train, test, size)
        if 3 * size * size * (len(train) + len(test)) > IN_MEMORY:
            return Raw(images[0], labels[0], images[1], labels[1], classes, identity)
        from bench.data.stream import decode_all

        held = [decode_all(part) for part in images]
        return Raw(held[0], labels[0], held[1], labels[1], classes, identity)

    @cached_property
    def _classes(self) -> list[str]:
        if reason := self.missing():
            raise DataError(reason)
        classes = _folders(self.folder / "train")
        if len(classes) < 2:
            raise DataError(
                f"{self.folder / 'train'}: {len(classes)} class folders; there must be two or more"
            )
        return classes

    @cached_property
    def _train(self) -> Listing:
        return self._listed("train", self._classes)

    def _test(self, classes: list[str]) -> Listing:
        if differing := set(classes) ^ set(_folders(self.folder / "val")):
            name = min(differing)
            has, lacks = ("train", "val") if name in classes else ("val", "train")
            raise DataError(
                f"{self.folder}: class {name!r} is in {has}/ but not in {lacks}/; "
                "both must have the same classes"
            )
        return self._listed("val", classes)

    def _listed(self, part: str, classes: list[str]) -> Listing:
        found = []
        for label, name in enumerate(classes):
            images = _images(self.folder / part / name)
            if not images:
                raise DataError(
                    f"{self.folder / part / name}: no image; add some, or remove the class"
                )
            found += [(path, label) for path in images]
        return found

    def _check(self, train: Listing, test: Listing) -> None:
        """Where there is a `SHA256SUMS`, every image must be in it and every line must hold."""
        path = self.folder / "SHA256SUMS"
        if not path.exists():
            return
        listed = {os.path.normpath(name): checksum for name, checksum in sums(path).items()}
        for name, checksum in listed.items():
            Pin(self.folder / name, checksum).check("Put the original there")
        for image, _ in train + test:
            if str(image.relative_to(self.folder)) not in listed:
                raise DataError(f"{image}: is not in {path}. Remove the image, or add its line")

    def _digest(self, train: Listing, test: Listing, size: int) -> str:
        """sha256 over image size, classes and each file's name, size and (to `CONTENTS`) content.

        Folders below a class do not count, so both layouts of Tiny-ImageNet have the same digest.
        """
        sizes = {path: path.stat().st_size for path, _ in train + test}
        whole = sum(sizes.values()) <= CONTENTS
        state = hashlib.sha256(f"{size}\n".encode())
        for part, listing in (("train", train), ("val", test)):
            for path, label in listing:
                fields = part, self._classes[label], path.name, sizes[path]
                content = digest(path) if whole else ""
                state.update("\t".join(map(str, (*fields, content))).encode() + b"\n")
        return state.hexdigest()

    def _usual_size(self) -> int:
        from PIL import Image

        first = {label: path for path, label in reversed(self._train)}
        shorter = []
        for path in first.values():
            try:
                with Image.open(path) as image:
                    shorter.append(min(image.size))
            except OSError as error:
                raise DataError(f"{path}: is no image: {error}. Put the original there") from None
        return min(LARGEST, statistics.median_low(shorter))


class TinyImageNet(ImageFolder):
    """Tiny-ImageNet-200, as unzipped or with `val` sorted into class folders."""

    licence = "ImageNet terms: non-commercial research and education; Stanford CS231n (2015)"
    url = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
    md5 = "90528d7ca1a48142e341f4ef8d21d0de"
    expected: ClassVar = {"train": (100_000, 200), "val": (10_000, 200)}
    """Images and classes of each part."""

    def __init__(self, name: str, root: Path) -> None:
        super().__init__(name, root, root / "tiny-imagenet-200", 64)
        self.licence = type(self).licence

    def geometry(self) -> tuple[Shape, int]:
        """See `Source`."""
        return (3, 64, 64), self.expected["train"][1]

    def missing(self) -> str | None:
        """See `Source`."""
        if super().missing() is None:
            return None
        return (
            f"{self.folder}: not there with its train and val. Set `download: true` in the config, "
            f"or unzip {self.url} (md5 {self.md5}) in {self.root}"
        )

    def fetch(self) -> None:
        """See `Source`."""
        from torchvision.datasets.utils import download_and_extract_archive

        if self.folder.exists():
            raise DataError(
                f"{self.folder}: is there but incomplete. Move it away; nothing was changed"
            )
        attempt(
            self.name,
            self.root,
            lambda: download_and_extract_archive(self.url, str(self.root), md5=self.md5),
        )

    def _test(self, classes: list[str]) -> Listing:
        notes = self.folder / "val" / "val_annotations.txt"
        if not (self.folder / "val" / "images").is_dir():
            return super()._test(classes)
        if not notes.exists():
            raise DataError(f"{notes}: no such file, but val/images needs it. Unzip it again")
        index = {name: label for label, name in enumerate(classes)}
        there = {path.name for path in _images(self.folder / "val" / "images")}
        found = []
        for line in notes.read_text(encoding="utf-8").splitlines():
            image, name = line.split("\t")[:2] if line.count("\t") else (line, "")
            if name not in index:
                raise DataError(f"{notes}: {image!r} has the class {name!r}, which train/ lacks")
            if image not in there:
                raise DataError(f"{notes.parent / 'images' / image}: no such file. Unzip it again")
            found.append((self.folder / "val" / "images" / image, index[name]))
        return sorted(found, key=lambda item: (item[1], item[0].name))

    def _check(self, train: Listing, test: Listing) -> None:
        for part, listing in (("train", train), ("val", test)):
            found = len(listing), len({label for _, label in listing})
            if found != self.expected[part]:
                raise DataError(
                    f"{self.folder / part}: (images, classes) are {found}, expected "
                    f"{self.expected[part]}. Move the folder away and unzip it again; "
                    "nothing was changed or deleted"
                )
        super()._check(train, test)


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _images(path: Path) -> list[Path]:
    """Every image below `path`, at any depth, in the order of its name."""
    below = (Path(folder) / f for folder, _, files in os.walk(path) for f in files)
    return sorted(p for p in below if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
