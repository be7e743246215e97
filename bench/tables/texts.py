"""How numbers are written in tables for people."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.tables.measures import Measure


def cell_text(row: dict[Any, Any], what: Measure) -> str:
    """`97.31 ± 0.42 (3)`; no interval for one seed, `~` before an interpolated mean.

    Without any seed `failed`, or `not reached` where every run finished and ends before.
    """
    n, mean, half = row["n"], row[what.column], row[f"{what.column}_half"]
    if n == 0:
        return "failed" if row["failed"] else "not reached"
    mark = "~" if row["interpolated"] else ""
    spread = f" ± {100 * half:.2f}" if half == half else ""
    return f"{mark}{100 * mean:.2f}{spread} ({n})"


def spread(value: float, half: float) -> str:
    """A signed difference: `-0.42 ± 0.10`; no interval for one seed, a dash for no difference."""
    interval = f" ± {half:.2f}" if half == half else ""
    return f"{number(value, '+.2f')}{interval}"


def number(value: float, form: str) -> str:
    """The formatted number, or a dash where there is none."""
    return f"{value:{form}}" if value == value else "–"  # noqa: RUF001


def digits(value: float) -> str:
    """Three significant digits, never as a power of ten: `0.0123`, `1.20`, `12346`; or a dash."""
    if value != value or not value:
        return number(value, "g")
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def times(value: float) -> str:
    """A ratio: `12.3×`."""
    return f"{digits(value)}×" if value == value else digits(value)  # noqa: RUF001


def letter(rank: int) -> str:
    """0 -> a, 25 -> z, 26 -> aa."""
    return letter(rank // 26 - 1) + letter(rank % 26) if rank > 25 else chr(ord("a") + rank)
