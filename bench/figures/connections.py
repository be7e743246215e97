"""Inside SET and RigL: how many connections move, what is left of the first, what was tried."""

from __future__ import annotations

from pathlib import Path

from bench.figures import inside

NAME = "connections"
METHODS = ("rigl", "set")
SHOWN = {
    "changed": "connections moved, %",
    "first": "left of the first ones, %",
    "explored": "weights ever connected, %",
}
"""Columns of the event `connections` and the labels of their axes."""


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `connections.{pdf,png}`: the three measures by step, a line per layer."""
    return inside.by_layer(tables, out, NAME, "connections", SHOWN, ("step", "steps"))
