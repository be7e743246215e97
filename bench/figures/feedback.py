"""Inside DPF: the pruning error, and how much of the mask comes back, while the density falls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench import tidy
from bench.figures import inside, style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME = "feedback"
METHODS = ("dpf",)
SHOWN = {
    "target": "density",
    "error": "pruning error",
    "back": "back in the mask, %",
}
"""Columns of the event `feedback` and the labels of their axes."""


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `feedback.{pdf,png}`: the three measures by step, a line per density.

    Mean over seeds; a row of panels for each (dataset, arch, tier), of its first variant.
    """
    runs, history = (tidy.read(tables, name) for name in ("runs", "history"))
    if any(column not in history for column in SHOWN):
        return style.message("No run of DPF left its pruning error.", out, NAME)
    labels = ["run", *inside.PAIR, "variant", "target_density"]
    lines = history[history["event"] == "feedback"].merge(runs[labels], on="run")
    first = lines.groupby(inside.PAIR)["variant"].transform("min")
    groups = list(lines[lines["variant"] == first].groupby(inside.PAIR, sort=True))
    with style.style():
        made, panels = inside.grid(len(groups), len(SHOWN), ["0.02"] * 4)
        for row, (key, part) in zip(panels, groups, strict=True):
            for axes, (column, label) in zip(row, SHOWN.items(), strict=True):
                panel(axes, part, column, label)
            row[0].set_title(f"{key[0]}, {key[1]}, {part['variant'].iloc[0]}", loc="left")
        style.legend(made, list(made.axes))
        return style.save(made, out, NAME)


def panel(axes: Axes, part: pd.DataFrame, column: str, label: str) -> None:
    """One measure by step, a line per density that is asked for."""
    factor = 100 if "%" in label else 1
    densities = sorted(part["target_density"].unique(), reverse=True)
    looks = style.looks([f"{i} {d:g}" for i, d in enumerate(densities)])
    for density, look in zip(densities, looks.values(), strict=True):
        own = part[part["target_density"] == density]
        values = factor * own.groupby("step")[column].mean()
        inside.trace(axes, values, look, f"density {density:g}")
    axes.set(xlabel="steps", ylabel=label)
    axes.set_ylim(bottom=0)
