"""What every family of data sets offers, and the checks that they share.

Importing this module loads neither torch nor numpy.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bench.spec import TaskName

if TYPE_CHECKING:
    import numpy as np

Shape = tuple[int, int, int]

MOVE = "Move it away and put the original there; nothing was changed or deleted"
ALTERED = (
    "Move it away and set `download: true` in the config, or put the original there; "
    "nothing was changed or deleted"
)


class DataError(ValueError):
    """A data set is unknown, missing, truncated or altered; the message says what to do."""


@dataclass(frozen=True)
class Pin:
    """A file and the checksum that it must have."""

    path: Path
    checksum: str
    algorithm: str = "sha256"

    def check(self, missing: str, altered: str = MOVE) -> None:
        """Raise `DataError`, ending in one of the two advices, unless the file is intact."""
        wanted = f"expected {self.algorithm} {self.checksum}"
        if not self.path.exists():
            raise DataError(f"{self.path}: no such file ({wanted}, found none). {missing}")
        found, size = digest(self.path, self.algorithm), self.path.stat().st_size
        if found != self.checksum:
            raise DataError(
                f"{self.path}: truncated or altered: {wanted}, "
                f"found {found} ({size} bytes). {altered}"
            )


def digest(path: Path, algorithm: str = "sha256") -> str:
    """The checksum of a file's bytes, in hex; `DataError` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def sums(path: Path) -> dict[str, str]:
    """File name -> sha256, from a file as `sha256sum` writes it."""
    found = {}
    for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
        checksum, _, name = line.partition(" ")
        name = name.lstrip(" *")
        if not line.strip():
            continue
        if not name or len(checksum) != 64 or set(checksum) - set("0123456789abcdef"):
            raise DataError(
                f"{path}: line {number} is not `<sha256>  <file name>`. "
                "Write the file with `sha256sum *.npy > SHA256SUMS`"
            )
        found[name] = checksum
    return found


@dataclass(frozen=True)
class Files:
    """Images that stay on disk: cut to `size` x `size` pixels when they are read."""

    paths: tuple[Path, ...]
    size: int

    def __len__(self) -> int:
        return len(self.paths)

    def pick(self, index: Iterable[int]) -> Files:
        """The images at `index`, in that order."""
        return Files(tuple(self.paths[i] for i in index), self.size)


@dataclass(frozen=True)
class Raw:
    """A data set as it was read: images uint8 `(N, C, H, W)` or files, labels int64 `(N,)`."""

    train: np.ndarray | Files
    train_labels: np.ndarray
    test: np.ndarray | Files
    test_labels: np.ndarray
    classes: int
    digest: str

    @staticmethod
    def held(parts: Sequence[np.ndarray], classes: int) -> Raw:
        """Of arrays in the order of the fields; the digest covers types, shapes and bytes."""
        import numpy as np

        train, test = (np.ascontiguousarray(part) for part in parts[::2])
        train_labels, test_labels = (part.astype(np.int64) for part in parts[1::2])
        state = hashlib.sha256()
        for array in (train, train_labels, test, test_labels):
            state.update(f"{array.dtype.str}{array.shape}".encode())
            state.update(array.data)
        return Raw(train, train_labels, test, test_labels, classes, state.hexdigest())


class Source(ABC):
    """One data set under one root. Making it reads nothing."""

    licence: str
    task: ClassVar[TaskName] = "classification"

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.root = name, root

    @abstractmethod
    def missing(self) -> str | None:
        """Why the data set is not there, as far as a glance at the folder tells; none: it is."""

    @abstractmethod
    def geometry(self) -> tuple[Shape, int]:
        """((channels, height, width), classes), without reading all images.

        For fields the frames to predict are in the place of the classes.
        """

    @abstractmethod
    def read(self) -> Raw:
        """Everything, checked first; `DataError` for a missing, truncated or altered file.

        Of a source whose task is `field` this is `trajectories()` (`bench.data.wave`).
        """

    def fetch(self) -> None:
        """Download what is missing; files that are there stay as they are."""
        raise DataError(f"{self.name}: cannot be downloaded. {self.missing()}")


class Pinned(Source):
    """A public data set whose files, geometry and licence are known beforehand."""

    shape: Shape
    classes: int

    @abstractmethod
    def pins(self) -> tuple[Pin, ...]:
        """The files that `read` needs."""

    @abstractmethod
    def download(self) -> None:
        """Let torchvision fetch and unpack the files."""

    def geometry(self) -> tuple[Shape, int]:
        """See `Source`."""
        return self.shape, self.classes

    def missing(self) -> str | None:
        """See `Source`."""
        absent = [pin.path for pin in self.pins() if not pin.path.exists()]
        return f"{absent[0]}: no such file. {self.advice()}" if absent else None

    def advice(self) -> str:
        """What to do about a missing file."""
        return f"Set `download: true` in the config, or copy {self.name} there by hand"

    def check(self) -> None:
        """Raise `DataError` unless every file is there and intact."""
        for pin in self.pins():
            pin.check(self.advice(), ALTERED)

    def fetch(self) -> None:
        """See `Source`; an altered file is an error and not overwritten."""
        for pin in self.pins():
            if pin.path.exists():
                pin.check(self.advice(), ALTERED)
        attempt(self.name, self.root, self.download)


def attempt(name: str, root: Path, download: Callable[[], None]) -> None:
    """Run `download`; whatever a network, a disk or an archive does wrong becomes a `DataError`."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        download()
    except Exception as error:
        raise DataError(
            f"{name}: could not be downloaded to {root}: {error}. "
            "Try again, or copy the files there by hand"
        ) from error
