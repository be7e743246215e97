"""Tie groups instead of ranks: what three seeds tell apart, and what they do not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import tidy
from bench.figures import labels, page, scales, style
from bench.figures.trade import DOT, SEED
from bench.tables import comparison, controls, measures
from bench.tables.cells import GROUP, cells

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME = "tie_groups"
BEST, REST, SHADE = style.COLOURS[0], "#707070", "#DCEBF5"
CONTROLS = dict(zip(("random", "magnitude", "scratch"), style.COLOURS[1:], strict=False))
"""The controls that stand as ticks in the row of their method."""
PATCH = {"boxstyle": "square,pad=0.1", "lw": 0}
"""What hides the line behind a number."""


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `tie_groups.{pdf,png}`: a row per variant and a panel per density, in one order.

    The order is that of the mean over the densities shown. Shaded: the confidence set for the best
    of a density (group a); the letter at the right is the tie group. Collapsed nets are arrows at
    the left edge.
    """
    points, latency = tidy.read(tables, "points"), tidy.read(tables, "latency")
    seeds = cells(points)
    rows = comparison.rows(seeds, points, latency.iloc[:0])
    rows = rows[(rows["block"] == "method") & (rows["n"] > 0)]
    copies = controls.rows(points)
    blocks = []
    for title, part in page.places(rows):
        densities = page.some(sorted(set(part["target_density"])))
        part = part[part["target_density"].isin(densities)]
        height = 1.5 + labels.ROW * max(part["variant"].nunique(), 4)
        fill = partial(block, part=part, seeds=beside(seeds, part), copies=beside(copies, part))
        blocks.append(page.Block(title, height, fill))
    return page.save(blocks, out, NAME, "No finished run of a pruned net to show.")


def beside(table: pd.DataFrame, part: pd.DataFrame) -> pd.DataFrame:
    """The rows of `table` for the variants and densities of `part`."""
    return table.merge(part[[*GROUP, "variant", "target_density"]], validate="many_to_one")


def block(made: Any, part: pd.DataFrame, seeds: pd.DataFrame, copies: pd.DataFrame) -> None:
    """One place: a panel per density, densest first."""
    what = measures.named(part)
    order = ordered(part, what)
    densities = sorted(set(part["target_density"]), reverse=True)
    grid = made.subplots(1, len(densities), squeeze=False, sharey=True)[0]
    most = max(2, int((page.WIDTH - labels.width(order)) / len(densities) / 0.3))  # tick labels
    for axes, density in zip(grid, densities, strict=True):
        own, dots, ticks = (
            table[table["target_density"] == density] for table in (part, seeds, copies)
        )
        panel(axes, own, dots, ticks, order, what, most)
        axes.set_title(f"{100 * density:.3g} % kept", loc="left")
        axes.set_xlabel(what.axis)
    grid[0].set_yticks(range(len(order)), order)
    grid[0].set_ylim(len(order) - 0.5, -0.5)
    style.legend(made, list(grid))


def ordered(part: pd.DataFrame, what: measures.Measure) -> list[str]:
    """The variants, best first, by the mean over densities."""
    means = what.sign * part.groupby("variant")[what.column].mean()
    return [str(name) for name in means.sort_values(ascending=False, kind="stable").index]


def panel(
    axes: Axes,
    part: pd.DataFrame,
    seeds: pd.DataFrame,
    copies: pd.DataFrame,
    order: Sequence[str],
    what: measures.Measure,
    most: int,
) -> None:
    """One density: means with t intervals, seeds as dots, controls as ticks, the group's letter."""
    place = {variant: index for index, variant in enumerate(order)}
    floor = 0.5 / max(float(seeds["test_samples"].max()), 1.0)
    shown = scales.fenced(list(seeds["score"]), floor)
    scales.accuracy_axis(axes, shown, floor, error=what.lower, which="x", most=most)
    for row in part.to_dict("records"):
        variant(axes, row, place[row["variant"]], what)
    dots = {"marker": ".", "color": "black", "label": SEED} | DOT
    marks(axes, seeds["score"], [place[name] for name in seeds["variant"]], dots)
    for kind, color in CONTROLS.items():
        if not len(own := copies[copies["control"] == kind]):
            continue
        at = own[f"{what.column}_control"]
        look = {"marker": "|", "color": color, "ms": 3.5, "mew": 1.1, "zorder": 3}
        label = f"{kind}, {controls.about(kind)}"
        heights = [place[name] + 0.27 for name in own["variant"]]
        marks(axes, 1 - at if what.lower else at, heights, look | {"label": label})
    axes.grid(visible=False, axis="y")


def variant(axes: Axes, row: dict[Any, Any], y: int, what: measures.Measure) -> None:
    """The mean and its interval; a mean left of the panel is written at the edge."""
    color, back, label = REST, "white", "mean and its t interval"
    if row["best"]:
        axes.axhspan(y - 0.5, y + 0.5, color=SHADE, lw=0, zorder=0)
        color, back, label = BEST, SHADE, "in the confidence set for the best"
    values = [row[f"{what.column}{end}"] for end in ("", "_low", "_high")]
    mean, *ends = [1 - value for value in values] if what.lower else values
    axes.plot(ends, [y, y], color=color, lw=0.8, zorder=2)
    if mean < axes.get_xlim()[0]:
        axes.annotate(f"{100 * values[0]:.3g}", (0.06, y), xycoords=("axes fraction", "data"),
                      va="center", color=color, bbox=PATCH | {"fc": back})  # fmt: skip
    axes.plot(mean, y, "|", color=color, ms=7, mew=1.6, zorder=3, label=label)
    axes.annotate(row["group"] or "", (1.02, y), xycoords=("axes fraction", "data"), va="center",
                  color=color)  # fmt: skip


def marks(axes: Axes, at: Iterable[float], heights: Iterable[float], look: dict[str, Any]) -> None:
    """Marks where they belong, or as an arrow at the edge that they lie beyond."""
    x, y = np.array(list(at), dtype=float), np.array(list(heights), dtype=float)
    left, right = axes.get_xlim()
    within = (x >= left) & (x <= right)
    axes.plot(x[within], y[within], linestyle="", **look)
    for beyond, marker, edge in ((x < left, "<", left), (x > right, ">", right)):
        if beyond.any():
            arrow = {"color": look["color"], "ms": 3, "mew": 0, "clip_on": False, "zorder": 4}
            axes.plot(np.full(beyond.sum(), edge), y[beyond], marker, **arrow)
