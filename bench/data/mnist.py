"""MNIST and Fashion-MNIST: 28x28 grey, the four files that torchvision keeps in `<class>/raw`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.data.source import Pin, Pinned, Raw

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from bench.data.source import Source

NAMES = ("mnist", "fashion_mnist")

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

# sha256 of the files unpacked from the archives whose MD5 torchvision lists.
SHA256 = {
    "mnist": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    "fashion_mnist": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}
LICENCES = {
    "mnist": "CC BY-SA 3.0; Y. LeCun and C. Cortes, derived from NIST",
    "fashion_mnist": "MIT; H. Xiao, K. Rasul and R. Vollgraf, Zalando SE (2017)",
}


def source(name: str, root: Path) -> Source:
    """One of `NAMES` under `root`."""
    return Idx(name, root)


class Idx(Pinned):
    """Both sets have the same files and the same format.

    The verified files are parsed here and not by torchvision, because torchvision reads an old
    `processed` folder first, unchecked, where there is one.
    """

    shape, classes = (1, 28, 28), 10

    def __init__(self, name: str, root: Path) -> None:
        super().__init__(name, root)
        self.licence = LICENCES[name]
        self.kind = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}[name]

    def pins(self) -> tuple[Pin, ...]:
        """See `Pinned`."""
        folder = self.root / self.kind / "raw"
        return tuple(Pin(folder / f, s) for f, s in zip(FILES, SHA256[self.name], strict=True))

    def advice(self) -> str:
        """See `Pinned`."""
        packed = [p.path.with_name(f"{p.path.name}.gz") for p in self.pins() if not p.path.exists()]
        if packed and all(path.exists() for path in packed):
            return f"Unpack it: gunzip -k {packed[0].parent}/*.gz"
        return super().advice()

    def download(self) -> None:
        """See `Pinned`."""
        from torchvision import datasets

        getattr(datasets, self.kind)(str(self.root), download=True)

    def read(self) -> Raw:
        """See `Source`."""
        self.check()
        train, train_labels, test, test_labels = (_parse(pin.path) for pin in self.pins())
        return Raw.held((train[:, None], train_labels, test[:, None], test_labels), self.classes)


def _parse(path: Path) -> np.ndarray:
    """An IDX file of bytes: two zeros, the type 8, the rank, big-endian sizes, then the content."""
    import numpy as np

    content = path.read_bytes()
    rank = content[3]
    sizes = np.frombuffer(content, ">u4", count=rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(sizes)
