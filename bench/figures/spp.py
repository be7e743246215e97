"""SPP from inside: how the pruning probabilities of each layer part into 0 and 1."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench import tidy
from bench.figures import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Normalize

NAME = "spp"
METHODS = ("spp",)
COLUMNS, LAYERS = 4, 8
NONE = "No run of SPP left its probabilities."


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `spp.{pdf,png}`: the distribution of p at each logged update, a panel per layer.

    Of each (dataset, arch, tier) the first variant, at its lowest density and first seed, and at
    most eight layers, from the first to the last.
    """
    from matplotlib.colors import LogNorm

    lines = states(tidy.read(tables, "runs"), tidy.read(tables, "history"))
    panels = [p for _, run in lines.groupby("run", sort=False) for p in chosen(run)]
    if not panels:
        return style.message(NONE, out, NAME)
    with style.style():
        rows = math.ceil(len(panels) / COLUMNS)
        made = style.figure(2 * style.COLUMN, 1.6 * rows + 0.4)
        grid = made.subplots(rows, COLUMNS, squeeze=False, sharey=True)
        shades = LogNorm(1e-3, 1)
        for axes, part in zip(grid.flat, panels, strict=False):
            image = panel(axes, part, shades)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        for axes in grid[:, 0]:
            axes.set_ylabel("p, or share pruned")
        for axes in made.axes[-COLUMNS:]:
            axes.set_xlabel("updates")
        made.colorbar(image, ax=made.axes, label="share of groups", fraction=0.02, pad=0.01)
        style.legend(made, list(made.axes))
        return style.save(made, out, NAME)


def states(runs: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """The logged states of the runs to show, with labels; empty if no run of SPP is there."""
    if "histogram" not in history:
        return runs.iloc[:0]
    labels = ["run", "dataset", "arch", "tier", "variant", "target_density", "seed"]
    lines = history[history["event"] == "spp"].merge(runs[labels], on="run")
    lines = lines[lines["histogram"].notna()]
    if lines.empty:
        return lines
    keys = ["dataset", "arch", "tier"]
    order = [*keys, "variant", "target_density", "seed", "run"]
    first = lines[order].drop_duplicates().sort_values(order).drop_duplicates(keys)
    return first[["run"]].merge(lines, on="run")


def chosen(run: pd.DataFrame) -> list[pd.DataFrame]:
    """The states of at most `LAYERS` layers, evenly spread."""
    names = list(dict.fromkeys(run["layer"]))
    picked = np.unique(np.linspace(0, len(names) - 1, min(LAYERS, len(names))).round().astype(int))
    return [run[run["layer"] == names[i]].sort_values("update") for i in picked]


def panel(axes: Axes, part: pd.DataFrame, shades: Normalize) -> QuadMesh:
    """One layer: shares of its groups by p (ten bins, and a band for p = 1), what is pruned."""
    shares = np.array([json.loads(text) for text in part["histogram"]], dtype=float)
    shares /= shares.sum(1, keepdims=True)
    updates = part["update"].to_numpy(dtype=float)
    # a state stands from the update before it to its own
    edges = np.concatenate([[0.0], updates])
    image = axes.pcolormesh(
        edges,
        np.linspace(0, 1.1, 12),
        np.where(shares > 0, shares, np.nan).T,
        norm=shades,
        cmap="Blues",
        rasterized=True,
    )
    axes.plot(edges, [0.0, *shares[:, -1]], color=style.COLOURS[1], lw=1.2, label="share pruned")
    axes.set_yticks([0, 0.5, 1.05], ["0", "0.5", "1"])
    first = part.iloc[0]
    name = str(first["layer"]).removesuffix(".weight")
    axes.set_title(
        f"{name}\n{first['arch']}, {int(first['groups'])} groups", loc="left", fontsize=7
    )
    axes.grid(visible=False)
    return image
