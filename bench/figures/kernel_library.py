"""Inside privacy-preserving pruning: the library of kernel patterns, and how near ADMM comes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench import tidy
from bench.figures import inside

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME = "kernel_library"
METHODS = ("privacy_admm",)


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `kernel_library.{pdf,png}`: |W - Z| / |W| at the end of each penalty; the patterns.

    Those of the first seed, where kernels are pruned by patterns.
    """
    history = tidy.read(tables, "history")
    found = history[history["event"] == "pattern"] if "places" in history else history[:0]

    def library(axes: Axes, part: pd.DataFrame) -> None:
        patterns(axes, found[found["run"] == part.sort_values("seed")["run"].iloc[0]])

    away = inside.Lines("away", "distance from the set", ("rho", "penalty"), scale="loglog")
    return inside.by_layer(tables, out, NAME, "admm", [away, library])


def patterns(axes: Axes, library: pd.DataFrame) -> None:
    """The patterns of a library, most frequent first, with the share of the kernels it counts."""
    axes.axis("off")
    if library.empty:
        axes.text(0.5, 0.5, "no kernel patterns", ha="center", transform=axes.transAxes)
        return
    total = library["kernels"].sum()
    for order, (places, kernels) in enumerate(
        zip(library["places"], library["kernels"], strict=True)
    ):
        grid = np.zeros(9)
        grid[[int(place) for place in json.loads(places).split()]] = 1
        across, down = order % 4, order // 4
        left, top = 4 * across, -5 * down
        axes.imshow(
            grid.reshape(3, 3),
            cmap="Blues",
            vmin=0,
            vmax=1.4,
            extent=(left, left + 3, top - 3, top),
        )
        axes.text(left + 1.5, top - 3.9, f"{100 * kernels / total:.0f} %", ha="center", fontsize=6)
    axes.set_xlim(-0.5, 16)
    axes.set_ylim(-5 * ((len(library) - 1) // 4 + 1), 0.5)
    axes.set_aspect("equal")
