"""Accuracy against measured speed: what is left of the theoretical speed-up on a real machine."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import tidy
from bench.figures import labels, page, scales, style
from bench.figures.facets import MOST
from bench.figures.multiples import OTHERS, PALE
from bench.figures.trade import DOT, SEED
from bench.tables import choice, comparison, measures
from bench.tables.cells import GROUP, cells

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME = "accuracy_latency"
X = "measured_speedup"
KEYS = [*GROUP, "variant", "target_density"]
FRONT = "no other is both faster and better"
REST = "#9A9A9A"


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `accuracy_latency.{pdf,png}`: top-1 over the fastest path's measured speed-up.

    A panel has one setting. Latency is measured on one seed; each density's accuracies (all seeds)
    stand at that seed's speed-up, which is paired with the dense net of the moment; milliseconds of
    different hours do not compare. A curve appears where a stored model of it stands for a density.
    """
    points, latency = tidy.read(tables, "points"), tidy.read(tables, "latency")
    seeds = cells(points)
    rows = comparison.rows(seeds, points, latency)
    timed = rows[rows[X].notna() & rows["block"].isin(["dense", "method"])]
    blocks = [
        page.Block(title, 3.4, partial(panel, part=part, seeds=seeds))
        for title, part in page.places(timed)
        if (part["block"] == "method").any()
    ]
    nothing = "No latency was measured: run the latency rule on a machine\nwith nothing else on it."
    return page.save(blocks, out, NAME, nothing)


def panel(made: Any, part: pd.DataFrame, seeds: pd.DataFrame) -> None:
    """One place: every timed net and all its seeds; those on the front are coloured and named."""
    axes, what, front = made.subplots(), measures.named(part), choice.front(part).index
    part = part.assign(score=1 - part[what.column] if what.lower else part[what.column])
    looks = coloured(part, front)
    seeds = seeds.merge(part[[*KEYS, X]], on=KEYS)
    for variant, rows in part[part["block"] == "method"].groupby("variant", sort=True):
        line(axes, rows, seeds[seeds["variant"] == variant], looks.get(str(variant)))
    dense = part[part["block"] == "dense"]
    axes.plot(dense[X], dense["score"], "*", color="black", ms=7, zorder=5, label="dense")
    staircase(axes, part.loc[front].sort_values(X))
    floor = 0.5 / max(float(seeds["test_samples"].max()), 1.0)
    bright = seeds.loc[seeds["variant"].isin(looks) | (seeds["block"] == "dense"), "score"]
    shown = [*bright, *scales.fenced(list(seeds["score"]), floor)]
    scales.accuracy_axis(axes, shown, floor, error=what.lower)
    scales.log_axis(axes, list(part[X].astype(float)), setting(part))
    axes.invert_xaxis()
    axes.set_ylabel(what.axis)
    labels.below(axes, part["score"])
    style.legend(made, [axes])
    labels.around(axes, named(part, front, looks), list(zip(part[X], part["score"], strict=True)))


def coloured(part: pd.DataFrame, front: pd.Index) -> dict[str, style.Look]:
    """The variants in colour: all of a few, of many those on the front."""
    methods = part[part["block"] == "method"]
    few = methods["variant"].nunique() <= MOST
    return style.looks(sorted(set(methods["variant"] if few else methods["variant"].filter(front))))


def line(axes: Axes, rows: pd.DataFrame, seeds: pd.DataFrame, look: style.Look | None) -> None:
    """One variant from dense to sparse, with its seeds; without a look it is grey."""
    rows = rows.sort_values("target_density", ascending=False)
    color, marker, dashes = look or (REST, "o", "-")
    small: dict[str, Any] = {"ms": 4 if look else 2.5, "mec": "white", "mew": 0.4, "zorder": 3}
    axes.plot(rows[X], rows["score"], color=color if look else PALE, ls=dashes, lw=0.8, zorder=1)
    label = None if look else OTHERS
    axes.plot(rows[X], rows["score"], marker, color=color, label=label, **small)
    axes.plot(seeds[X], seeds["score"], ".", color=color, label=SEED, **DOT)


def staircase(axes: Axes, best: pd.DataFrame) -> None:
    """What is reached at no less than a speed-up: a step at each net on the front, slowest first.

    With the interval of each speed-up.
    """
    axes.step(best[X], best["score"], where="pre", color="black", lw=0.7, zorder=2, label=FRONT)
    for row in best.to_dict("records"):
        ends = [row["speedup_low"], row["speedup_high"]]
        axes.plot(ends, [row["score"]] * 2, color="black", lw=1.6, alpha=0.4, zorder=2)


def named(
    part: pd.DataFrame, front: pd.Index, looks: dict[str, style.Look]
) -> Iterator[labels.Name]:
    """`fpgm, 20 %` for the nets on the front, then for the fastest of each other in colour."""
    fastest = part[part["variant"].isin(looks)].groupby("variant")[X].idxmax()
    beside = [row for variant, row in fastest.items()
              if variant not in set(part.loc[front, "variant"])]  # fmt: skip
    for row in part.loc[[*front, *beside]].to_dict("records"):
        text, color = "dense", "black"
        if row["block"] == "method":
            text = f"{row['variant']}, {100 * row['target_density']:.3g} %"
            color = looks[row["variant"]].color
        yield labels.Name(text, row[X], row["score"], color)


def setting(part: pd.DataFrame) -> str:
    """What the speed-up is over, and where: one setting holds for all rows of a place."""
    ms = part.loc[part["block"] == "dense", "latency_ms"].min()
    dense = f" (dense: {ms:.3g} ms per batch)" if ms == ms else ""
    return f"times faster than the fastest dense net{dense}\n{part['latency_setting'].iloc[0]}"
