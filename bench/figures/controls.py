"""Method minus control.

Is it the choice of weights that helps, or only how many each layer keeps?
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench import tidy
from bench.figures import style
from bench.tables import controls
from bench.tables.cells import GROUP

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME = "controls"
ROWS = 48
"""Most rows of a panel: what a page holds."""


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `controls.{pdf,png}`.

    Paired differences in points with t intervals, a row per variant and density.
    """
    table = controls.rows(tidy.read(tables, "points"))
    table, shown = fitting(table)
    groups = list(table.groupby(GROUP, sort=True))
    if not groups:
        return style.message("No method has a finished control to compare with.", out, NAME)
    kinds = style.looks(sorted(set(table["control"])))
    tallest = max(len(part[["variant", "target_density"]].drop_duplicates()) for _, part in groups)
    with style.style():
        labels = [label(kind) for kind in kinds]
        made, axes = style.panels(len(groups), labels, height=0.9 + 0.17 * tallest)
        for one, (key, part) in zip(axes, groups, strict=True):
            panel(one, part, kinds)
            one.set_xlabel(f"difference in top-1, points{shown}")
            tier = f" ({key[2]} tier)" if table["tier"].nunique() > 1 else ""
            one.set_title(f"{key[0]}, {key[1]}{tier}", loc="left")
        style.legend(made, axes)
        return style.save(made, out, NAME)


def fitting(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows that fit on a page, and a remark for the axis.

    With very many, each variant's sparsest density.
    """
    rows = table.drop_duplicates([*GROUP, "variant", "target_density"]).groupby(GROUP).size()
    if not len(rows) or rows.max() <= ROWS:
        return table, ""
    sparsest = table.groupby([*GROUP, "variant"])["target_density"].transform("min")
    return table[
        table["target_density"] == sparsest
    ], "\n(sparsest density of each; the table has all)"


def label(kind: str) -> str:
    """Legend entry of one kind of control."""
    return f"minus {kind} with the same layer densities"


def panel(axes: Axes, part: pd.DataFrame, kinds: dict[str, style.Look]) -> None:
    """One dot per control in each row.

    Full when the corrected test tells method and control apart, else hollow.
    """
    keys = (
        part[["variant", "target_density"]]
        .drop_duplicates()
        .sort_values(["variant", "target_density"])
    )
    places = {tuple(key): index for index, key in enumerate(keys.itertuples(index=False))}
    middle = (len(kinds) - 1) / 2
    for step, (kind, look) in enumerate(kinds.items()):
        own = part[part["control"] == kind]
        height = [
            places[key] - (step - middle) * 0.3
            for key in zip(own["variant"], own["target_density"], strict=True)
        ]
        for row, y in zip(own.to_dict("records"), height, strict=True):
            told = row["verdict"] in ("better", "worse")
            face = look.color if told else "white"
            axes.plot(
                [100 * row["low"], 100 * row["high"]], [y, y], color=look.color, lw=0.8, zorder=2
            )
            axes.plot(100 * row["difference"], y, look.marker, color=look.color, mfc=face, zorder=3)
        axes.plot([], [], look.marker, color=look.color, label=label(kind))
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(
        list(places.values()), [f"{variant}, {100 * density:.3g} %" for variant, density in places]
    )
    axes.set_ylim(-0.6, len(places) - 0.4)
    axes.set_xscale("symlog", linthresh=2)
    # An interval from two or three seeds can be absurdly wide: it may be cut, a dot may not.
    low, high = 100 * min(part["difference"].min(), 0), 100 * max(part["difference"].max(), 0)
    margin = 0.35 * (high - low) + 1
    axes.set_xlim(max(100 * np.fmin(part["low"].min(), low / 100) - 1, low - margin), high + margin)
    ticks = [
        t
        for t in (-50, -20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20, 50)
        if axes.get_xlim()[0] <= t <= axes.get_xlim()[1]
    ]
    axes.set_xticks(ticks, [f"{t:+d}" if t else "0" for t in ticks])
    axes.minorticks_off()
