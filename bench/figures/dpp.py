"""Inside DPP: how sure each layer's selection becomes, how groups differ, what still changes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench import tidy
from bench.figures import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME = "dpp"
METHODS = ("dpp",)
SHOWN = {
    "mask_confidence": "confidence of the mask",
    "diversity": "diversity of the groups",
    "turnover": "groups changed, %",
}
"""Columns of the event `selection` and the labels of their axes."""


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `dpp.{pdf,png}`: the three measures by epoch, a line per layer, mean over the seeds.

    A row of panels for each (dataset, arch, tier), of the lowest density of its first variant.
    """
    lines = selections(tidy.read(tables, "runs"), tidy.read(tables, "history"))
    groups = list(lines.groupby(["dataset", "arch", "tier"], sort=True))
    if not groups:
        return style.message("No run of DPP left its selection.", out, NAME)
    with style.style():
        widest = max(part["layer"].nunique() for _, part in groups)
        height = max(1.9, 0.15 * widest) + 0.2
        made = style.figure(2 * style.COLUMN, height * len(groups))
        grid = made.subplots(len(groups), len(SHOWN), squeeze=False)
        for row, (key, part) in zip(grid, groups, strict=True):
            looks = style.looks(numbered(part))
            for axes, (column, label) in zip(row, SHOWN.items(), strict=True):
                panel(axes, part, column, label, looks)
            density = part["target_density"].iloc[0]
            row[0].set_title(
                f"{key[0]}, {key[1]}, {part['variant'].iloc[0]} at {100 * density:.3g} %",
                loc="left",
            )
            row[-1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
        return style.save(made, out, NAME)


def selections(runs: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """The lines of the event `selection` to show, with the labels of their run."""
    wanted = ["event", *SHOWN]
    if any(column not in history for column in wanted):
        return runs.iloc[:0]
    labels = ["run", "dataset", "arch", "tier", "variant", "target_density"]
    lines = history[history["event"] == "selection"].merge(runs[labels], on="run")
    pair = lines.groupby(["dataset", "arch", "tier"])
    lines = lines[lines["variant"] == pair["variant"].transform("min")]
    pair = lines.groupby(["dataset", "arch", "tier"])
    return lines[lines["target_density"] == pair["target_density"].transform("min")]


def numbered(part: pd.DataFrame) -> list[str]:
    """The layers in the order of the net, numbered so that their looks keep that order."""
    return [f"{i:03d} {name}" for i, name in enumerate(dict.fromkeys(part["layer"]))]


def panel(
    axes: Axes, part: pd.DataFrame, column: str, label: str, looks: dict[str, style.Look]
) -> None:
    """One measure by epoch, a line per layer."""
    factor = 100 if "%" in label else 1
    for place, look in looks.items():
        layer = place[4:]
        curve = factor * part[part["layer"] == layer].groupby("epoch")[column].mean()
        axes.plot(
            curve.index,
            curve,
            color=look.color,
            marker=look.marker,
            linestyle=look.linestyle,
            markersize=3,
            markevery=max(1, len(curve) // 6),
            label=layer.removesuffix(".weight"),
        )
    axes.set_ylim(-0.02 * factor, 1.02 * factor)
    axes.set_xlabel("epochs of the run")
    axes.set_ylabel(label)
