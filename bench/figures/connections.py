"""Inside SET and RigL: how many connections move, what is left of the first, what was tried."""

from __future__ import annotations

from pathlib import Path

from bench.figures import inside

NAME = "connections"
METHODS = ("rigl", "set")
PANELS = (
    inside.Lines("changed", "connections moved, %"),
    inside.Lines("first", "left of the first ones, %"),
    inside.Lines("explored", "weights ever connected, %"),
)


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `connections.{pdf,png}`: the three measures by step, a line per layer."""
    return inside.by_layer(tables, out, NAME, "connections", PANELS)
