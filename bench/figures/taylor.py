"""Inside Taylor-FO: the widths that fall, and the estimate against the true importance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench import tidy
from bench.figures import inside, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME = "taylor"
METHODS = ("taylor",)


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `taylor.{pdf,png}`: widths by step; estimate against oracle, where it was measured."""
    history = tidy.read(tables, "history")
    probes = history[history["event"] == "oracle"] if "oracle" in history else history[:0]

    def oracle(axes: Axes, part: pd.DataFrame) -> None:
        agreement(axes, probes[probes["run"].isin(part["run"])])

    widths = inside.Lines("width", "channels left", scale="log")
    return inside.by_layer(tables, out, NAME, "taylor", [widths, oracle])


def agreement(axes: Axes, probes: pd.DataFrame) -> None:
    """Each probed channel: what Taylor says against what its removal does; their correlation."""
    if probes.empty:
        axes.axis("off")
        axes.text(0.5, 0.5, "no oracle measured", ha="center", transform=axes.transAxes)
        return
    axes.set(xlabel="change of the loss, squared", ylabel="Taylor's estimate")
    true, estimate = (probes[c].to_numpy(dtype=float) for c in ("oracle", "taylor"))
    both = (true > 0) & (estimate > 0)
    axes.loglog(true[both], estimate[both], ".", color=style.COLOURS[0], markersize=3)
    ends = [
        min(true[both].min(), estimate[both].min()),
        max(true[both].max(), estimate[both].max()),
    ]
    axes.plot(ends, ends, color="0.6", lw=0.8, zorder=0)
    ranks = [np.argsort(np.argsort(v)) for v in (true, estimate)]
    linear, rank = np.corrcoef(true, estimate)[0, 1], np.corrcoef(ranks[0], ranks[1])[0, 1]
    said = f"correlation {linear:.2f},\nof ranks {rank:.2f}, n = {len(true)}"
    axes.text(0.03, 0.97, said, va="top", transform=axes.transAxes)
