"""Method minus control: does the choice of weights help, or only how many each layer keeps?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench import tidy
from bench.figures import scales, style
from bench.tables import controls, measures
from bench.tables.cells import GROUP

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NAME = "controls"
ROWS = 48
"""Most rows of a panel: what a page holds."""
END = 0.0
"""Stands for the end of a curve that does not reach the lowest requested density."""


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `controls.{pdf,png}`: paired differences with t intervals by variant and density."""
    table = controls.rows(tidy.read(tables, "points")).fillna({"target_density": END})
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
            what = measures.named(part)
            one.set_xlabel(f"difference in {what.short}, points{better(what)}{shown}")
            tier = f" ({key[2]} tier)" if table["tier"].nunique() > 1 else ""
            one.set_title(f"{key[0]}, {key[1]}{tier}", loc="left")
        style.legend(made, axes)
        return style.save(made, out, NAME)


def fitting(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The rows that fit on a page and a remark: of too many, each variant's sparsest density."""
    rows = table.drop_duplicates([*GROUP, "variant", "target_density"]).groupby(GROUP).size()
    if not len(rows) or rows.max() <= ROWS:
        return table, ""
    sparsest = table.groupby([*GROUP, "variant"])["target_density"].transform("min")
    return table[
        table["target_density"] == sparsest
    ], "\n(sparsest density of each;\nthe table has all)"


def better(what: measures.Measure) -> str:
    """Which side is the better one, where it is not the right."""
    return " (left is better)" if what.lower else ""


def label(kind: str) -> str:
    """Legend entry of one kind of control."""
    return f"minus {kind}, {controls.about(kind)}"


def panel(axes: Axes, part: pd.DataFrame, kinds: dict[str, style.Look]) -> None:
    """One dot per control in each row, full where the corrected test tells them apart."""
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
        list(places.values()),
        [f"{variant}, {100 * d:.3g} %" if d else f"{variant}, its end" for variant, d in places],
    )
    axes.set_ylim(-0.6, len(places) - 0.4)
    axes.set_xscale("symlog", linthresh=2)
    # An interval from two or three seeds can be absurdly wide: it may be cut, a dot may not.
    low, high = 100 * min(part["difference"].min(), 0), 100 * max(part["difference"].max(), 0)
    margin = 0.35 * (high - low) + 1
    axes.set_xlim(max(100 * np.fmin(part["low"].min(), low / 100) - 1, low - margin), high + margin)
    ticks = scales.apart(axes, (0, 2, -2, 10, -10, 50, -50, 1, -1, 5, -5, 20, -20))
    axes.set_xticks(ticks, [f"{t:+d}" if t else "0" for t in ticks])
    axes.minorticks_off()
