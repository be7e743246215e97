"""Accuracy against anything: the panels of `accuracy_density`, `_macs` and `_latency`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.figures import style
from bench.tables import measures
from bench.tables.cells import GROUP, cells, finished

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

CONTROLS = "controls (like=…)"
Axis = Callable[["Axes", list[float]], None]


def steps(seeds: pd.DataFrame) -> pd.DataFrame:
    """Cells with `step`, which orders a variant's densities from dense to sparse."""
    return seeds.assign(step=-seeds["target_density"])


def rounds(points: pd.DataFrame) -> pd.DataFrame:
    """What the figures over size show: one row per variant, `step` and seed, its density in `kept`.

    A run without `densities` stands at the density asked of it, a step for each. A run with them
    is a curve of real points, nothing read off; a step is a round of the method. A control's point
    belongs to the round that it copies: of its original, the point of nearest density. A round that
    only some seeds have is the mean over those.
    """
    import pandas as pd

    single = steps(cells(points[points["densities"].isna()]))
    curves = finished(points[points["densities"].notna()])
    own = curves[curves["like"].isna()].assign(step=curves["point"].astype("float64"))
    copies = curves[curves["like"].notna()].reset_index(names="row")
    sources = points.loc[points["density"].notna(), ["run", "point", "density"]]
    pairs = copies.merge(sources, left_on="like", right_on="run", suffixes=("", "_source"))
    pairs["gap"] = np.abs(np.log(pairs["density_source"] / pairs["density"]))
    nearest = pairs.loc[pairs.groupby("row")["gap"].idxmin()]
    copied = nearest[[*curves.columns]].assign(step=nearest["point_source"].astype("float64"))
    parts = [single.assign(kept=single["target_density"])]
    parts += [part.assign(kept=part["density"]) for part in (own, copied) if len(part)]
    return pd.concat(parts, ignore_index=True)


def draw(
    table: pd.DataFrame, x: str, axis: Axis, out: Path, name: str, dodge: bool = False
) -> list[Path]:
    """Small multiples of top-1, or error, over column `x`, one panel per (dataset, arch, tier).

    Methods are coloured, with t intervals over the seeds; controls are thin grey lines; the dense
    net is a dashed line with its interval as a band. With `dodge`, variants that stand at the same
    densities step aside a little so that bars do not hide each other.
    """
    table = table[table["score"].notna() & table[x].notna()]
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
            one.set_ylabel(measures.measure(part).axis)
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
            # a dot as well: the control of a curve may have a single point, and a line needs two
            axes.plot(
                rows["x"],
                rows["mean"],
                ".-",
                color=style.GREY,
                lw=0.7,
                ms=2.5,
                zorder=1,
                label=CONTROLS,
            )
            shown += list(rows["mean"])
        else:
            curve = part.loc[part["variant"] == variant, "densities"].notna().any()
            aside = (order.index(variant) / max(len(order) - 1, 1) - 0.5) * 0.35
            shift = 2**aside if dodge and not curve else 1.0
            method(axes, rows, variant, looks[variant], shift, many=len(looks) > 12)
            shown += list(rows["mean"])
    floor, lower = 0.5 / max(float(part["test_samples"].max()), 1.0), measures.measure(part).lower
    style.accuracy_axis(axes, [*shown, *part["score"].astype(float)], floor, error=lower)


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
    """One method: marks at the means, joined, with t intervals; among many, variants step back."""
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
