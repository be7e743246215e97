"""A folder of arrays with checksums: the layout to bring one's own small data set in.

`{train,test}_images.npy`, uint8 `(N, H, W)` or `(N, H, W, C)`; `{train,test}_labels.npy`, integers
`(N,)` from 0; `SHA256SUMS`, as `sha256sum *.npy` writes it; optionally `LICENSE`, whose first line
is the licence line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.data.source import MOVE, DataError, Pin, Raw, Shape, Source, sums

if TYPE_CHECKING:
    import numpy as np

PREFIX = "arrays"
FILES = ("train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy")


def source(name: str, root: Path) -> Source:
    """`arrays:<folder>` under `root`."""
    return Arrays(name, root, root / name.removeprefix(f"{PREFIX}:"))


class Arrays(Source):
    """The arrays in `folder`; `known` is the public set that they claim to be, if any."""

    def __init__(self, name: str, root: Path, folder: Path, known: Source | None = None) -> None:
        super().__init__(name, root)
        self.folder, self.known = folder, known
        self.licence = known.licence if known else first_line(folder)

    def missing(self) -> str | None:
        """See `Source`."""
        for name in ("SHA256SUMS", *FILES):
            if not (self.folder / name).exists():
                return f"{self.folder / name}: no such file. Put {self._layout()} in {self.folder}"
        return None

    def geometry(self) -> tuple[Shape, int]:
        """See `Source`; reads the header of the images and the labels."""
        import numpy as np

        if self.known is not None:
            return self.known.geometry()
        if reason := self.missing():
            raise DataError(reason)
        shape = _load(self.folder / FILES[0], mmap=True).shape
        labels = _load(self.folder / FILES[1])
        channels = shape[3] if len(shape) == 4 else 1
        return (channels, shape[1], shape[2]), int(np.max(labels)) + 1

    def read(self) -> Raw:
        """See `Source`."""
        if reason := self.missing():
            raise DataError(reason)
        listed = sums(self.folder / "SHA256SUMS")
        for name in FILES:
            if name not in listed:
                raise DataError(
                    f"{self.folder / 'SHA256SUMS'}: has no line for {name}. "
                    "If the arrays are right: sha256sum *.npy > SHA256SUMS"
                )
            Pin(self.folder / name, listed[name]).check(f"Put {self._layout()} there", MOVE)
        parts: list[np.ndarray] = []
        for train in (True, False):
            images, labels = self._images(train), self._labels(train)
            if len(images) != len(labels):
                raise DataError(f"{self.folder}: {len(images)} images but {len(labels)} labels")
            parts += [images, labels]
        return Raw.held(parts, self._agree(*parts))

    def _agree(
        self, train: np.ndarray, labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray
    ) -> int:
        """The number of classes; `DataError` where arrays contradict each other or `known`."""
        import numpy as np

        shape, classes = self.geometry()
        for part, images in (("train", train), ("test", test)):
            if images.shape[1:] != shape:
                raise DataError(
                    f"{self.folder / f'{part}_images.npy'}: the images are {images.shape[1:]} "
                    f"(C, H, W), but {self.name} has {shape}"
                )
        found = np.unique(labels)
        if classes < 2 or not np.array_equal(found, np.arange(classes)):
            raise DataError(
                f"{self.folder / FILES[1]}: the labels are {found.tolist()[:20]}; they must be "
                f"0 to {max(classes, 2) - 1}, each of them there"
            )
        if test_labels.max() >= classes:
            raise DataError(
                f"{self.folder / FILES[3]}: a label is {test_labels.max()}, "
                f"but train has {classes} classes"
            )
        return classes

    def _images(self, train: bool) -> np.ndarray:
        path = self.folder / FILES[0 if train else 2]
        images = _load(path)
        if images.dtype != "uint8" or images.ndim not in (3, 4) or not images.size:
            raise DataError(
                f"{path}: {images.dtype} {images.shape}; "
                "images must be uint8 (N, H, W) or (N, H, W, C)"
            )
        if images.ndim == 4 and images.shape[3] > min(images.shape[1:3]):
            raise DataError(f"{path}: {images.shape}; the channels must come last: (N, H, W, C)")
        return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)

    def _labels(self, train: bool) -> np.ndarray:
        path = self.folder / FILES[1 if train else 3]
        labels = _load(path)
        if labels.dtype.kind not in "iu" or labels.ndim != 1 or not labels.size or labels.min() < 0:
            raise DataError(
                f"{path}: {labels.dtype} {labels.shape}; labels must be integers from 0, (N,)"
            )
        return labels.astype("int64")

    def _layout(self) -> str:
        return f"{', '.join(FILES)} and SHA256SUMS"


def _load(path: Path, mmap: bool = False) -> np.ndarray:
    import numpy as np

    try:
        return np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: is not an array in npy format: {error}") from None


def first_line(folder: Path) -> str:
    """The licence line of a folder that somebody brought: the first line of its `LICENSE`."""
    for name in ("LICENSE", "LICENCE", "LICENSE.txt"):
        if (folder / name).is_file():
            lines = (folder / name).read_text(encoding="utf-8", errors="replace").split("\n")
            return next((line.strip() for line in lines if line.strip()), "none stated")
    return "none stated"
