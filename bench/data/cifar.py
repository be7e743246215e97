"""CIFAR-10, CIFAR-100 and SVHN: 32x32 colour, loaded by torchvision once the checksums agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench.data.source import Pin, Pinned, Raw

if TYPE_CHECKING:
    from pathlib import Path

    from bench.data.source import Source

NAMES = ("cifar10", "cifar100", "svhn")

# Folder below the root, and the files with their MD5s, the only checksums that are published.
FILES = {
    "cifar10": (
        "cifar-10-batches-py",
        {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
    ),
    "cifar100": (
        "cifar-100-python",
        {
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            "meta": "7973b15100ade9c7d40fb424638fde48",
        },
    ),
    "svhn": (
        "svhn",
        {
            "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
            "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
        },
    ),
}
LICENCES = {
    "cifar10": "none stated; A. Krizhevsky, Learning Multiple Layers of Features (2009)",
    "cifar100": "none stated; A. Krizhevsky, Learning Multiple Layers of Features (2009)",
    "svhn": "non-commercial use only; Y. Netzer et al., Reading Digits in Natural Images (2011)",
}


def source(name: str, root: Path) -> Source:
    """One of `NAMES` under `root`."""
    return Torchvision(name, root)


class Torchvision(Pinned):
    """A set that torchvision unpickles or reads from MATLAB files."""

    shape = (3, 32, 32)

    def __init__(self, name: str, root: Path) -> None:
        super().__init__(name, root)
        self.classes = 100 if name == "cifar100" else 10
        self.licence = LICENCES[name]

    def pins(self) -> tuple[Pin, ...]:
        """See `Pinned`."""
        folder, files = FILES[self.name]
        return tuple(Pin(self.root / folder / f, md5, "md5") for f, md5 in files.items())

    def download(self) -> None:
        """See `Pinned`."""
        for train in (True, False):
            self._open(train, download=True)

    def read(self) -> Raw:
        """See `Source`."""
        import numpy as np

        self.check()
        arrays: list[np.ndarray] = []
        for train in (True, False):
            opened = self._open(train)
            images = np.asarray(opened.data)
            if self.name != "svhn":  # torchvision has SVHN's channels first already
                images = images.transpose(0, 3, 1, 2)
            labels = opened.labels if self.name == "svhn" else opened.targets
            arrays += [images, np.asarray(labels)]
        return Raw.held(arrays, self.classes)

    def _open(self, train: bool, download: bool = False) -> Any:
        from torchvision import datasets

        if self.name == "svhn":
            part = "train" if train else "test"
            return datasets.SVHN(str(self.root / "svhn"), split=part, download=download)
        kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[self.name]
        return kind(str(self.root), train=train, download=download)
