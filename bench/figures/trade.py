"""Accuracy against a size: the panels of `accuracy_density` and `accuracy_macs`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.figures import labels, page, scales, style
from bench.figures.multiples import OTHERS, PALE, Place, save
from bench.tables import measures
from bench.tables.cells import cells, finished

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

DOT: dict[str, Any] = {"ms": 4, "alpha": 0.8, "mec": "white", "mew": 0.3, "zorder": 4}
SEED = "one seed"
CONTROLS = "its controls (same layer densities or shape)"
Axis = Callable[["Axes", list[float]], None]


class Size(NamedTuple):
    """What the x axis shows: a column, its label, and how its scale and ticks are set."""

    column: str
    label: str
    axis: Axis
    dodge: bool = False
    """Variants at the same places step aside a little, so that no mark hides another."""


def rounds(points: pd.DataFrame) -> pd.DataFrame:
    """What the figures over size show: one row per variant, `step` and seed, its density in `kept`.

    A run without `densities` stands at the density asked of it, a step for each. A run with them
    is a curve of real points, nothing read off; a step is a round of the method. A control's point
    belongs to the round that it copies: of its original, the point of nearest density. A round that
    only some seeds have is the mean over those.
    """
    import pandas as pd

    single = cells(points[points["densities"].isna()])
    single = single.assign(step=-single["target_density"], kept=single["target_density"])
    curves = finished(points[points["densities"].notna()])
    own = curves[curves["like"].isna()].assign(step=curves["point"].astype("float64"))
    copies = curves[curves["like"].notna()].reset_index(names="row")
    sources = points.loc[points["density"].notna(), ["run", "point", "density"]]
    pairs = copies.merge(sources, left_on="like", right_on="run", suffixes=("", "_source"))
    pairs["gap"] = np.abs(np.log(pairs["density_source"] / pairs["density"]))
    nearest = pairs.loc[pairs.groupby("row")["gap"].idxmin()]
    copied = nearest[[*curves.columns]].assign(step=nearest["point_source"].astype("float64"))
    parts = [part.assign(kept=part["density"]) for part in (own, copied) if len(part)]
    return pd.concat([single, *parts], ignore_index=True)


def draw(table: pd.DataFrame, size: Size, out: Path, name: str) -> list[Path]:
    """Small multiples of top-1, or error, over a size: per (dataset, arch, tier) and family.

    Methods are coloured and named at their ends, with t intervals and a dot for each seed; the
    other methods of the place are pale, controls of those in colour dotted; the dense net is a
    dashed line with its interval as a band.
    """
    table = table[table["score"].notna() & table[size.column].notna()]
    places = [
        Place(title, part, measures.measure(part).axis, (part, style.summed(part, size.column)))
        for title, part in page.places(table)
        if (part["block"] == "method").any()
    ]
    return save(places, partial(panel, size=size), size.label, out, name)


Means = list[tuple[str, str, "pd.DataFrame"]]


def panel(
    axes: Axes, content: tuple[pd.DataFrame, Means], variants: tuple[str, ...], size: Size
) -> list[labels.Name]:
    """One panel; its limits hold every mean and every single run of the variants in colour.

    Returns the names of those, at the ends of their lines. The content is of the whole place.
    """
    part, means = content
    looks, own = style.looks(variants), part[part["variant"].isin(variants)]
    like = dict(zip(part["variant"], part["like_variant"], strict=True))
    names, shown = [], [float(score) for score in own["score"]]
    for kind, variant, rows in means:
        if kind == "dense":
            dense(axes, rows)
            shown.append(rows["mean"].iloc[0])
        elif variant in looks:
            seeds = own[own["variant"] == variant]
            shift = aside(variants.index(variant), len(looks))
            shift = shift if size.dodge and seeds["densities"].isna().all() else 1.0
            method(axes, rows, looks[variant], shift)
            x, color = seeds[size.column].astype(float) * shift, looks[variant].color
            axes.plot(x, seeds["score"], ".", color=color, label=SEED, **DOT)
            end = rows.iloc[-1]
            names.append(labels.Name(variant, end["x"] * shift, end["mean"], color))
        elif kind == "method":
            axes.plot(rows["x"], rows["mean"], color=PALE, lw=0.7, zorder=0.5, label=OTHERS)
        elif like[variant] in looks:
            # dots as well: the control of a curve may have a single point, and a line needs two
            copied: dict[str, Any] = {"color": looks[like[variant]].color, "label": CONTROLS}
            axes.plot(rows["x"], rows["mean"], ".:", lw=0.7, ms=1.5, zorder=1, **copied)
    floor = 0.5 / max(float(part["test_samples"].max()), 1.0)
    scales.accuracy_axis(axes, shown, floor, error=measures.measure(part).lower)
    size.axis(axes, sorted(own[size.column].astype(float)))
    return names


def aside(index: int, count: int) -> float:
    """The factor by which the `index`-th of `count` variants steps aside on a log2 axis."""
    return float(2 ** ((index - (count - 1) / 2) * 0.06))


def dense(axes: Axes, rows: pd.DataFrame) -> None:
    """The dense net: a line across the panel and, with two seeds or more, its interval."""
    row = rows.iloc[0]
    axes.axhline(row["mean"], color="black", lw=0.8, ls=(0, (4, 2)), zorder=2, label="dense")
    if row["low"] == row["low"]:
        axes.axhspan(row["low"], min(row["high"], 1.0), color="black", alpha=0.07, lw=0, zorder=0)


def method(axes: Axes, rows: pd.DataFrame, look: style.Look, shift: float) -> None:
    """One method: marks at the means, joined, with t intervals."""
    x = rows["x"].to_numpy() * shift
    high = np.minimum(rows["high"], 1.0)
    spread = np.vstack([rows["mean"] - rows["low"], high - rows["mean"]])
    axes.errorbar(
        x, rows["mean"], np.nan_to_num(spread), color=look.color, marker=look.marker,
        linestyle=look.linestyle, markersize=3.2, markeredgecolor="white", markeredgewidth=0.4,
        elinewidth=0.6, zorder=3,
    )  # fmt: skip
