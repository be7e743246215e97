"""Accuracy against density: what each method keeps when fewer weights are kept."""

from __future__ import annotations

from pathlib import Path

from bench.figures import style, trade


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `accuracy_density.{pdf,png}`.

    Top-1 over the requested density, one panel per (dataset, arch).
    """
    return trade.draw(
        trade.seeds(tables),
        "target_density",
        style.density_axis,
        out,
        "accuracy_density",
        dodge=True,
    )
