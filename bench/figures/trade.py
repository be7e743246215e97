"""Accuracy against anything.

The panels that `accuracy_density`, `accuracy_macs`, `accuracy_latency` share.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench import tidy
from bench.figures import style
from bench.tables.cells import GROUP, cells

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

CONTROLS = "controls (like=…)"
Axis = Callable[["Axes", list[float]], None]


def seeds(tables: Path) -> pd.DataFrame:
    """The cells of the suite: one row per variant, density and seed."""
    return cells(tidy.read(tables, "points"))


def draw(
    table: pd.DataFrame, x: str, axis: Axis, out: Path, name: str, dodge: bool = False
) -> list[Path]:
    """Small multiples of top-1 over column `x`, one panel per (dataset, arch, tier).

    Methods are coloured, with t intervals over the seeds; controls are thin grey lines; the dense
    net is a dashed line with its interval as a band. With `dodge`, variants step aside a little so
    that bars do not hide each other.
    """
    table = table[table["top1"].notna() & table[x].notna()]
    groups = [
        (key, part)
        for key, part in table.groupby(GROUP, sort=True)
        if (part["block"] != "dense").any()
    ]
    if not groups:
        return style.message("No finished run of a pruned net to show.", out, name)
    looks = style.looks(sorted(set(table.loc[table["block"] == "method", "variant"])))
    with style.style():
        made, axes = style.panels(len(groups), [*looks, "dense", CONTROLS])
        for one, (key, part) in zip(axes, groups, strict=True):
            panel(one, part, x, looks, dodge)
            shown = part if x == "latency_ms" else part[part["block"] != "dense"]
            axis(one, sorted(shown[x].astype(float)))
            tier = f" ({key[2]} tier)" if table["tier"].nunique() > 1 else ""
            one.set_title(f"{key[0]}, {key[1]}{tier}", loc="left")
            one.set_ylabel("top-1 accuracy, %")
        style.legend(made, axes)
        return style.save(made, out, name)


def panel(
    axes: Axes, part: pd.DataFrame, x: str, looks: dict[str, style.Look], dodge: bool
) -> None:
    """One panel; its y limits hold every mean and every single run."""
    shown: list[float] = []
    order = sorted(looks)
    for block, variant, rows in style.summed(part, x):
        if block == "dense":
            dense(axes, rows, shown)
            if x == "latency_ms":
                axes.plot(rows["x"], rows["mean"], "*", color="black", ms=7, zorder=4)
        elif block == "control":
            axes.plot(rows["x"], rows["mean"], color=style.GREY, lw=0.7, zorder=1, label=CONTROLS)
            shown += list(rows["mean"])
        else:
            shift = (
                1.0
                if not dodge
                else 2 ** ((order.index(variant) / max(len(order) - 1, 1) - 0.5) * 0.35)
            )
            method(axes, rows, variant, looks[variant], shift, many=len(looks) > 12)
            shown += list(rows["mean"])
    floor = 0.5 / max(float(part["test_samples"].max()), 1.0)
    style.accuracy_axis(axes, [*shown, *part["top1"].astype(float)], floor)


def dense(axes: Axes, rows: pd.DataFrame, shown: list[float]) -> None:
    """The dense net: a line across the panel and, with two seeds or more, its interval."""
    row = rows.iloc[0]
    axes.axhline(row["mean"], color="black", lw=0.8, ls=(0, (4, 2)), zorder=2, label="dense")
    if row["low"] == row["low"]:
        axes.axhspan(row["low"], min(row["high"], 1.0), color="black", alpha=0.07, lw=0, zorder=0)
    shown.append(row["mean"])


def method(
    axes: Axes, rows: pd.DataFrame, name: str, look: style.Look, shift: float, many: bool
) -> None:
    """One method: marks at the means, joined, with t intervals.

    Among many, variants of a method step back.
    """
    x = rows["x"].to_numpy() * shift
    line = {"color": look.color, "marker": look.marker, "linestyle": look.linestyle, "zorder": 3}
    if many and "(" in name:
        line |= {"alpha": 0.6, "linewidth": 0.7, "markersize": 3, "zorder": 2}
    axes.plot(x, rows["mean"], label=name, markeredgecolor="white", markeredgewidth=0.4, **line)
    if not many:
        spread = np.vstack(
            [rows["mean"] - rows["low"], np.minimum(rows["high"], 1.0) - rows["mean"]]
        )
        axes.errorbar(
            x,
            rows["mean"],
            np.nan_to_num(spread),
            fmt="none",
            ecolor=look.color,
            elinewidth=0.8,
            capsize=1.8,
            zorder=2,
        )
