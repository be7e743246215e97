"""Accuracy against multiply-adds: what a density costs depends on which layers it hits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench import tidy
from bench.figures import scales, trade

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "accuracy_macs"
LABEL = "multiply-adds"


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `accuracy_macs.{pdf,png}`: top-1 over multiply-adds with non-zero weights."""
    size = trade.Size("effective_macs", LABEL, axis)
    return trade.draw(trade.rounds(tidy.read(tables, "points")), size, out, NAME)


def axis(axes: Axes, values: list[float]) -> None:
    """Multiply-adds on a log2 axis."""
    scales.log_axis(axes, values, LABEL, gap=0.25)
