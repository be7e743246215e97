"""Trajectories of the 2-D wave equation, computed on first use; nothing is downloaded.

`bench.wave.trajectories.RECIPES` says what each set is. 200 trajectories of 50 frames, split 140 /
30 / 30 by trajectory. Unlike the other families these are no labelled images but fields:
`source(name, root).trajectories()` gives `Fields`, whose `train`, `validation` and `test` are

    frames  float32 (T, F, H, W)   u at the nodes, row = y, column = x; as computed, not normalised
    speed   float32 (T,)           c of each trajectory
    source  float32 (T, 2)         x0 = (x, y) of each trajectory

A sample of one-step prediction is any two neighbouring frames, with the speed as a constant plane,
and the frame after them: input (3, H, W), target (1, H, W). That is the geometry told here, with
one output channel in the place of the classes. A trajectory has F - 2 such samples, and none of
them crosses a split.

Under the root: `<name>/{train,validation,test}.npy` and `wave.json`, which has the recipe, the
trajectories' parameters, the versions of the solver's libraries and the sha256 of each array. Not
`SHA256SUMS`: a folder with one is read as a set of labelled arrays. Other contents than `wave.json`
says are refused; another recipe or version is computed anew in its place.

The digest covers recipe, version and split, not the arrays: a sparse LU may round otherwise on
another machine. What was drawn is equal to the bit everywhere; another elimination order changes
the solver's float64 fields by about 1e-15, so nearly every float32 of a frame stays as it is.

One core makes `wave32` in 40 s, `wave32_neumann` in 44 s, `wave32_ricker` in 64 s and `wave64` in
three minutes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.data.source import DataError, Pin, Raw, Shape, Source, digest
from bench.lease import locked

if TYPE_CHECKING:
    import numpy as np

    from bench.wave.trajectories import Recipe

NAMES = ("wave32", "wave32_neumann", "wave32_ricker", "wave64")

CARD = "wave.json"


def source(name: str, root: Path) -> Wave:
    """One of `NAMES` under `root`."""
    return Wave(name, root)


@dataclass(frozen=True, eq=False)
class Trajectories:
    """One split; the arrays are described at the top of this module."""

    frames: np.ndarray
    speed: np.ndarray
    source: np.ndarray


@dataclass(frozen=True, eq=False)
class Fields:
    """A data set of trajectories, and the digest that a record keeps."""

    train: Trajectories
    validation: Trajectories
    test: Trajectories
    digest: str


class Wave(Source):
    """One recipe under one root."""

    licence = "MIT, as this benchmark, which computes it (bench/wave)"
    task = "field"

    def __init__(self, name: str, root: Path) -> None:
        super().__init__(name, root)
        self.folder = root / name

    def missing(self) -> None:
        """See `Source`; never: what is not there is computed when it is read."""

    def geometry(self) -> tuple[Shape, int]:
        """See `Source`: two frames and the speed, one frame to predict."""
        nodes = self.recipe.nodes
        return (3, nodes, nodes), 1

    def read(self) -> Raw:
        """See `Source`; always a `DataError`, since there are no labels."""
        raise DataError(f"{self.name}: a set of fields, not of labelled images")

    def trajectories(self) -> Fields:
        """Everything, computed if need be, and checked.

        Raises:
            DataError: an altered array, a folder of something else, or a root that takes no files.
        """
        import numpy as np

        from bench.wave.trajectories import draw, split

        if not self._made():
            self._make()
        card = self._card()
        speeds, sources = (a.astype(np.float32) for a in draw(self.recipe))
        parts = {}
        for part, index in split(self.recipe.trajectories).items():
            path = self.folder / f"{part}.npy"
            advice = f"Move {self.folder} away: it is computed again on first use"
            Pin(path, card["sha256"][path.name]).check(advice, advice)
            frames = np.load(path, allow_pickle=False)
            parts[part] = Trajectories(frames, speeds[index], sources[index])
        return Fields(**parts, digest=self.digest())

    @property
    def recipe(self) -> Recipe:
        """How the set is made."""
        from bench.wave.trajectories import RECIPES

        return RECIPES[self.name]

    def identity(self) -> dict[str, Any]:
        """What the frames follow from, as JSON gives it back."""
        from bench.wave.trajectories import SPLITS, VERSION

        content = {"version": VERSION, "recipe": asdict(self.recipe), "split": SPLITS}
        return json.loads(json.dumps(content))

    def digest(self) -> str:
        """sha256 of `identity`, in hex."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()

    def _card(self) -> dict[str, Any]:
        path = self.folder / CARD
        try:
            card = json.loads(path.read_text())
            if set(card["sha256"]) != {"train.npy", "validation.npy", "test.npy"}:
                raise KeyError("sha256")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: is no description of a computed data set ({error!r}). "
                f"Move {self.folder} away; nothing was changed or deleted"
            ) from None
        return card

    def _made(self) -> bool:
        """Whether the folder has what this recipe gives; `DataError` if it has something else."""
        return self.folder.exists() and self._card().get("identity") == self.identity()

    def _make(self) -> None:
        """Compute the set beside its place and move it there; of several jobs one does."""
        partial, old = (self.root / f".{self.name}.{word}" for word in ("partial", "old"))
        try:
            with locked(self.root / f".{self.name}.lock"):
                if self._made():
                    return
                for left in (partial, old):
                    shutil.rmtree(left, ignore_errors=True)
                partial.mkdir()
                self._write(partial)
                if self.folder.exists():
                    self.folder.rename(old)
                partial.rename(self.folder)
                shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise DataError(
                f"{self.name}: cannot be written under {self.root}: {error}. "
                "Give a data_root that takes files"
            ) from error

    def _write(self, folder: Path) -> None:
        """Compute everything, into `folder`."""
        import numpy as np

        from bench.wave.trajectories import draw, simulate, split

        speeds, sources = draw(self.recipe)
        card: dict[str, Any] = {"identity": self.identity(), "digest": self.digest()}
        card["libraries"] = {name: version(name) for name in ("numpy", "scipy", "scikit-fem")}
        card["sha256"], card["trajectories"] = {}, {}
        for part, index in split(self.recipe.trajectories).items():
            frames = np.stack([simulate(self.recipe, speeds[i], sources[i]) for i in index])
            np.save(folder / f"{part}.npy", frames)
            card["sha256"][f"{part}.npy"] = digest(folder / f"{part}.npy")
            card["trajectories"][part] = {
                "number": index.tolist(),
                "speed": speeds[index].tolist(),
                "source": sources[index].tolist(),
            }
        (folder / CARD).write_text(json.dumps(card, indent=1) + "\n")
