"""Critical-difference diagram: mean ranks over tasks, bars over what is not told apart."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from bench import tidy
from bench.across import ENOUGH, Ranking
from bench.figures import style
from bench.tables.aggregate import rankings
from bench.tables.cells import cells
from bench.tables.comparison import rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "critical_difference"
LINE = 0.19
"""Inches between two names."""


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `critical_difference.{pdf,png}` after Demsar (JMLR 2006), a panel for each tier."""
    points, latency = tidy.read(tables, "points"), tidy.read(tables, "latency")
    found = {
        tier: (made, tasks)
        for tier, (made, tasks, _) in rankings(rows(cells(points), points, latency)).items()
        if made is not None
    }
    if not found:
        text = f"Ranks over tasks need at least {ENOUGH} tasks\n(data sets with an architecture)"
        return style.message(text + " and three methods\nthat each of them has.", out, NAME)
    with style.style():
        heights = [LINE * (math.ceil(len(made.names) / 2) + 6) for made, _ in found.values()]
        made_figure = style.figure(2 * style.COLUMN, sum(heights))
        axes = made_figure.subplots(len(found), 1, squeeze=False, height_ratios=heights)
        for one, (tier, (made, tasks)) in zip(axes.flat, found.items(), strict=True):
            diagram(one, made)
            note = f"{tier} tier, {made.tasks} tasks: {', '.join(tasks)}"
            one.set_title(note, loc="left", fontsize="small", wrap=True)
        return style.save(made_figure, out, NAME)


def diagram(axes: Axes, made: Ranking) -> None:
    """The axis of ranks above, names on both sides, best on the left; ties as thick bars."""
    count = len(made.names)
    half, span = math.ceil(count / 2), max(made.means) - min(made.means)
    left, right = min(made.means) - 0.04 * span, max(made.means) + 0.04 * span
    edge = 0.32 * span
    axes.set_xlim(left - edge, right + edge)
    bars = len(made.ties())
    axes.set_ylim(-(half + 1 + 0.5 * bars), 2.4)
    axes.axis("off")
    axes.plot([left, right], [0, 0], color="black", lw=0.8)
    step = 1 if span < 12 else 2
    for tick in range(math.ceil(left), math.floor(right) + 1, step):
        axes.plot([tick, tick], [0, 0.25], color="black", lw=0.8)
        axes.text(tick, 0.35, str(tick), ha="center", va="bottom", fontsize="x-small")
    axes.text(left, 1.15, "mean rank (1 is best)", ha="left", va="bottom", fontsize="x-small")
    top = -0.5 * bars - 0.5
    for i, (name, mean) in enumerate(zip(made.names, made.means, strict=True)):
        early = i < half
        height = top - 0.5 - (i if early else count - 1 - i)
        side = left - 0.02 * span if early else right + 0.02 * span
        axes.plot([mean, mean, side], [0, height, height], color=style.GREY, lw=0.7)
        axes.plot([mean], [0], "o", ms=3, color="black", zorder=3)
        text = f"{name} {mean:.1f}" if early else f"{mean:.1f} {name}"
        axes.text(side, height, f" {text} ", ha="right" if early else "left", va="center",
                  fontsize="x-small")  # fmt: skip
    for k, (first, last) in enumerate(made.ties()):
        if first != last:
            height = -0.5 * (k + 1)
            axes.plot([made.means[first] - 0.005 * span, made.means[last] + 0.005 * span],
                      [height, height], color=style.COLOURS[0], lw=2.5, solid_capstyle="butt",
                      zorder=4)  # fmt: skip
    if made.p < 0.05:
        end = right
        axes.plot([end - made.critical, end], [1.9, 1.9], color="black", lw=1.2)
        axes.text(end, 2.0, f"critical difference {made.critical:.2f}", ha="right", va="bottom",
                  fontsize="x-small")  # fmt: skip
    else:
        axes.text(right, 1.9, f"no difference at 5 % (Friedman, p = {made.p:.2g})", ha="right",
                  va="bottom", fontsize="x-small")  # fmt: skip
