"""Accuracy against density: what each method keeps when fewer weights are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench import tidy
from bench.figures import scales, trade
from bench.tables.cells import asked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "accuracy_density"


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `accuracy_density.{pdf,png}`: top-1 over density, per (dataset, arch) and family.

    One-shot methods stand at the densities asked of them; a curve stands where its rounds ended.
    """
    points = tidy.read(tables, "points")
    ticks = sorted({density for row in points.to_dict("records") for density in asked(row)})

    def axis(axes: Axes, values: list[float]) -> None:
        scales.density_axis(axes, values, ticks, removed=False)

    size = trade.Size("kept", "weights kept, %", axis, dodge=True)
    return trade.draw(trade.rounds(points), size, out, NAME)
