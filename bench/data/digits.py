"""Handwritten digits, 8x8 grey, bundled with scikit-learn: real data without a download."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data.source import DataError, Raw, Shape, Source

if TYPE_CHECKING:
    import numpy as np

NAMES = ("digits",)

SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
"""Of the unpacked table: 1,797 lines of 64 grey values 0..16 and the digit."""


def source(name: str, root: Path) -> Source:
    """`digits`; the root does not matter."""
    return Digits(name, root)


class Digits(Source):
    """There is no official test split: it is a fifth, drawn by class once and for all."""

    licence = (
        "CC BY 4.0; E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (1998)"
    )

    def missing(self) -> str | None:
        """See `Source`."""
        path = self._path()
        if path is not None and path.exists():
            return None
        return (
            f"{path or 'scikit-learn'}: not found. Install scikit-learn, whose wheel holds the data"
        )

    def geometry(self) -> tuple[Shape, int]:
        """See `Source`."""
        return (1, 8, 8), 10

    def read(self) -> Raw:
        """See `Source`."""
        import numpy as np

        from bench.data.split import cut

        table = self._table()
        labels = table[:, 64].copy()
        # 0..16 to 0..255, rounded: 255 / 16 is no integer, so this keeps all 17 levels apart.
        images = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
        train, test = cut(labels, round(len(labels) / 5), "test", self.name)
        return Raw.held((images[train], labels[train], images[test], labels[test]), classes=10)

    def _path(self) -> Path | None:
        # Importing scikit-learn takes over a second whenever a run starts; its file is all we need.
        spec = importlib.util.find_spec("sklearn")
        if spec is None or spec.origin is None:
            return None
        return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"

    def _table(self) -> np.ndarray:
        import numpy as np

        path = self._path()
        if path is None or self.missing():
            raise DataError(str(self.missing()))
        try:
            text = gzip.decompress(path.read_bytes())
        except (OSError, EOFError) as error:
            raise DataError(
                f"{path}: cannot be unpacked: {error}. Reinstall scikit-learn"
            ) from None
        if (found := hashlib.sha256(text).hexdigest()) != SHA256:
            raise DataError(
                f"{path}: its content is altered: expected sha256 {SHA256}, found {found}. "
                "Reinstall scikit-learn"
            )
        return np.array([line.split(b",") for line in text.split()], dtype=np.int64)
