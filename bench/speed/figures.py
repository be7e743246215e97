"""A campaign's figures: where each path begins to pay, and how near nets come to their theory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.figures import heat, labels, page, scales, style
from bench.speed.rows import SETTING, crossovers, rows_of
from bench.speed.table import setting

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LEAST = 0.01
"""The sparsest colour of a crossover: what pays below a hundredth of the weights alone is rare."""


def draw(folder: Path, to: Path | None = None) -> list[Path]:
    """Write `figures/{crossover,theory}.{pdf,png}` of `to`; folders as in `table.write`."""
    table, out = rows_of(folder), (to or folder) / "figures"
    return [*crossover(table, out), *theory(table, out)]


def crossover(table: pd.DataFrame, out: Path) -> list[Path]:
    """Per setting a map: for each layer and path the density below which it beats the dense layer.

    That is the fastest dense one, and in per cent; a path that pays at every density measured, or
    at none, has the largest (`> 50`) or the least (`< 1`).
    """
    found = crossovers(table)
    if found.empty:
        return style.message("No path for zeros was measured on a layer.", out, "crossover")
    found = found.assign(way=ways(found))
    order = list(dict.fromkeys(table.loc[table["dataset"] == "layers", "arch"]))
    groups, columns = list(found.groupby(SETTING, sort=True)), sorted(set(found["way"]))
    beside = min(len(groups), 2 if len(columns) <= 4 else 1)
    rows = -(-len(groups) // beside)
    width = page.WIDTH if beside > 1 or len(columns) > 4 else style.COLUMN
    with style.style():
        made = style.figure(width, (0.9 + labels.ROW * len(order)) * rows + 0.7)
        grid = list(made.subplots(rows, beside, squeeze=False, sharey=True).flat)
        for spare in grid[len(groups) :]:
            spare.remove()
        for axes, (key, part) in zip(grid, groups, strict=False):
            mesh = pays(axes, part, order, columns)
            axes.set_title(setting(key).replace(", batch", ",\nbatch"), loc="left")
        heat.bar(made, mesh, grid[: len(groups)], "pays below this density, %")
        return style.save(made, out, "crossover")


def pays(axes: Axes, part: pd.DataFrame, layers: list[str], columns: list[str]) -> Any:
    """The map of one setting."""
    import pandas as pd

    at = part["density"].mask(part["verdict"] == "never", 0)
    side = part["verdict"].map({"found": "", "always": "> ", "never": "< "})
    said = side + (100 * part["density"]).map("{:.2g}".format)
    shares, texts = (
        pd.DataFrame({"layer": part["arch"], "way": part["way"], "cell": cell})
        .pivot(index="layer", columns="way", values="cell")
        .reindex(index=layers, columns=columns)
        for cell in (at, said)
    )
    mesh = heat.cells(axes, shares.to_numpy(dtype=float), texts.fillna("").to_numpy(), LEAST)
    names = [labels.wrapped(way, 10) for way in columns]
    axes.set_xticks([i + 0.5 for i in range(len(names))], names)
    axes.set_yticks([i + 0.5 for i in range(len(layers))], layers)
    return mesh


def ways(found: pd.DataFrame) -> list[str]:
    """The path of each row, and the version where that path runs several: `csr, 2:4`."""
    several = found.groupby("path")["version"].nunique() > 1
    short = found["version"].str.extract(r"pattern=([^,)]+)", expand=False).fillna(found["version"])
    if short.nunique() < found["version"].nunique():  # the pattern alone does not tell them apart
        short = found["version"]
    return [
        f"{path}, {version}" if several[path] else path
        for path, version in zip(found["path"], short, strict=True)
    ]


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
            scales.plain_axis(axes, "x", ends)
            scales.plain_axis(axes, "y", [*best["speedup"], *ends])
            axes.set_xlabel("multiply-adds of dense / those left")
            axes.set_ylabel("times faster, measured")
            axes.set_title(setting(key), loc="left")
        style.legend(made, panels)
        return style.save(made, out, "theory")
