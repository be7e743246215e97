"""Accuracy against density: what each method keeps when fewer weights are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench import tidy
from bench.figures import style, trade
from bench.tables.cells import asked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "accuracy_density"


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `accuracy_density.{pdf,png}`: top-1 over density, one panel per (dataset, arch).

    One-shot methods stand at the densities asked of them; a curve stands where its rounds ended.
    """
    points = tidy.read(tables, "points")
    table = trade.rounds(points)
    ticks = {density for row in points.to_dict("records") for density in asked(row)}

    def axis(axes: Axes, values: list[float]) -> None:
        style.density_axis(axes, values, sorted(ticks))

    return trade.draw(table, "kept", axis, out, NAME, dodge=True)
