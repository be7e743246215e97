"""Accuracy against multiply-adds: what a density costs depends on which layers it hits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench import tidy
from bench.figures import style, trade

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "accuracy_macs"


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `accuracy_macs.{pdf,png}`: top-1 over multiply-adds with non-zero weights."""
    table = trade.rounds(tidy.read(tables, "points"))
    return trade.draw(table, "effective_macs", axis, out, NAME)


def axis(axes: Axes, values: list[float]) -> None:
    """Multiply-adds on a log2 axis."""
    style.log_axis(axes, values, "multiply-adds with non-zero weights, one sample")
