"""Accuracy against effective multiply-adds.

The same density costs more or less, depending on which layers it hits.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.figures import style, trade

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `accuracy_macs.{pdf,png}`.

    Top-1 over the multiply-adds with non-zero weights of one sample.
    """
    return trade.draw(trade.seeds(tables), "effective_macs", axis, out, "accuracy_macs")


def axis(axes: Axes, values: list[float]) -> None:
    """Multiply-adds on a log2 axis."""
    style.log_axis(axes, values, "multiply-adds with non-zero weights, one sample")
