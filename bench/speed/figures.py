"""A campaign's figures: where each path begins to pay, and how near nets come to their theory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.figures import style
from bench.speed.rows import SETTING, crossovers, rows_of
from bench.speed.table import setting

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def draw(folder: Path, to: Path | None = None) -> list[Path]:
    """Write `figures/{crossover,theory}.{pdf,png}` of `to`; folders as in `table.write`."""
    table, out = rows_of(folder), (to or folder) / "figures"
    return [*crossover(table, out), *theory(table, out)]


def crossover(table: pd.DataFrame, out: Path) -> list[Path]:
    """Per setting: for each layer and path the density below which it beats the best dense kernel.

    A hollow mark at the left edge: never, in what was measured; a full one at the right: always.
    """
    found = crossovers(table)
    if found.empty:
        return style.message("No path for zeros was measured on a layer.", out, "crossover")
    order = list(dict.fromkeys(table.loc[table["dataset"] == "layers", "arch"]))
    found = found.assign(way=ways(found))
    looks = style.looks(sorted(found["way"].unique()))
    asked = sorted(table.loc[table["asked"] < 1, "asked"].unique())
    least, most = asked[0], asked[-1]
    columns = min(2, len(groups := list(found.groupby(SETTING, sort=True))))
    rows = -(-len(groups) // columns)
    with style.style():
        made = style.figure(columns * style.COLUMN, 0.9 + (0.6 + 0.105 * len(order)) * rows)
        grid = made.subplots(rows, columns, squeeze=False, sharey=True)
        for axes in list(grid.flat)[len(groups) :]:
            axes.remove()
        for axes, (key, part) in zip(grid.flat, groups, strict=False):
            for way, own in part.groupby("way", sort=True):
                _marks(axes, own, order, looks[str(way)], str(way), (least / 1.5, most * 1.5))
            axes.set_title(setting(key), loc="left")
            axes.set(xscale="log", xlim=(least / 1.8, most * 1.8), ylim=(len(order) - 0.5, -0.5))
            axes.set_xticks(asked, [f"{density:g}" for density in asked], fontsize=6)
            axes.set_xticks([], minor=True)
            axes.set_yticks(range(len(order)), order, fontsize=5)
            axes.set_xlabel("density below which it pays")
        style.legend(made, list(grid.flat)[: len(groups)])
        return style.save(made, out, "crossover")


def ways(found: pd.DataFrame) -> list[str]:
    """The path of each row, and the version where that path runs several: `csr, 2:4`."""
    several = found.groupby("path")["version"].nunique() > 1
    short = found["version"].str.extract(r"pattern=([^,)]+)", expand=False).fillna(found["version"])
    return [
        f"{path}, {version}" if several[path] else path
        for path, version in zip(found["path"], short, strict=True)
    ]


def _marks(
    axes: Axes,
    own: pd.DataFrame,
    order: list[str],
    look: style.Look,
    label: str,
    edges: tuple[float, float],
) -> None:
    places = {"never": edges[0], "always": edges[1]}
    at = [
        places.get(verdict, density)
        for verdict, density in zip(own["verdict"], own["density"], strict=True)
    ]
    hollow = own["verdict"].eq("never").to_numpy()
    rows = [order.index(arch) for arch in own["arch"]]
    for empty in (False, True):
        chosen = [i for i in range(len(rows)) if hollow[i] == empty]
        axes.plot(
            [at[i] for i in chosen],
            [rows[i] for i in chosen],
            linestyle="",
            marker=look.marker,
            markersize=3,
            color=look.color,
            markerfacecolor="none" if empty else look.color,
            label=None if empty else label,
        )


def theory(table: pd.DataFrame, out: Path) -> list[Path]:
    """Per setting: measured speed-up of each pruned net on its fastest path, against theory."""
    timed = table[(table["role"] == "candidate") & (table["status"] == "ok")]
    timed = timed[timed["dataset"] == "nets"]
    groups = list(timed.groupby(SETTING, sort=True))
    if not groups:
        return style.message("No net was measured.", out, "theory")
    names = sorted(f"{row.arch}, {row.version}" for row in timed.itertuples())
    looks = style.looks(list(dict.fromkeys(names)))
    with style.style():
        made, panels = style.panels(len(groups), list(looks))
        for axes, (key, part) in zip(panels, groups, strict=True):
            best = part.loc[part.groupby(["arch", "version", "asked"])["speedup"].idxmax()]
            for (arch, version), own in best.groupby(["arch", "version"], sort=True):
                label, rows = f"{arch}, {version}", own.sort_values("theory")
                color, marker, line = looks[label]
                axes.plot(
                    rows["theory"],
                    rows["speedup"],
                    color=color,
                    marker=marker,
                    linestyle=line,
                    markersize=3,
                    label=label,
                )
            ends = [1.0, float(best["theory"].max())]
            axes.plot(ends, ends, color="0.6", lw=0.8, zorder=0)
            axes.axhline(1.0, color="0.6", lw=0.8, ls=":", zorder=0)
            axes.set(xscale="log", yscale="log", xlabel="multiply-adds of dense / those left")
            axes.set_ylabel("times faster, measured")
            axes.set_title(setting(key), loc="left")
        style.legend(made, panels)
        return style.save(made, out, "theory")
