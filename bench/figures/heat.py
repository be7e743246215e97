"""A table whose cells are coloured by a share of the weights, and say it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.figures import labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAP = "cividis"
"""Perceptually uniform, and the same to those who see no difference of red and green."""
NOTHING = "#EBEBEB"


def cells(
    axes: Axes, shares: np.ndarray, texts: Sequence[Sequence[str]], least: float, names: bool = True
) -> Any:
    """Draw `shares` (rows, columns) in colours from `least` to 1 on a logarithmic scale.

    `texts` are written into the cells; nan and 0 have no colour. `names`: whether there is room for
    them. Returns what a colour bar is made of.
    """
    import matplotlib
    from matplotlib.colors import LogNorm

    norm = LogNorm(min(least, 0.5), 1.0)
    colours = matplotlib.colormaps[MAP].with_extremes(bad=NOTHING)
    drawn = np.ma.masked_invalid(np.where(shares > 0, shares, np.nan))
    mesh = axes.pcolormesh(drawn, cmap=colours, norm=norm, edgecolors="white", linewidth=0.6)
    for (row, column), share in np.ndenumerate(shares) if names else ():
        dark = share > 0 and norm(share) < 0.55
        axes.text(column + 0.5, row + 0.53, texts[row][column], ha="center", va="center",
                  fontsize=labels.SIZE, color="white" if dark else "black")  # fmt: skip
    axes.set(xlim=(0, shares.shape[1]), ylim=(shares.shape[0], 0))
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return mesh


def bar(made: Any, mesh: Any, axes: Any, label: str) -> None:
    """The scale of the colours, below `axes`, in per cent."""
    scale = made.colorbar(mesh, ax=axes, location="bottom", fraction=0.05, shrink=0.6, aspect=40)
    least = mesh.norm.vmin
    ticks = [lead * 10.0**power for power in range(-6, 1) for lead in (1, 3)]
    ticks = [tick for tick in ticks if least <= tick <= 1]
    scale.set_ticks(ticks, labels=[f"{100 * tick:g}" for tick in ticks])
    scale.ax.minorticks_off()
    scale.set_label(label)
    scale.outline.set_visible(False)
