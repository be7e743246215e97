"""Inside DJPQ: how many channels each layer has left, and how many bits it works with."""

from __future__ import annotations

from pathlib import Path

from bench.figures import inside

NAME = "precision"
METHODS = ("djpq",)
PANELS = (
    inside.Lines("width", "channels", scale="log"),
    inside.Lines("weight_bits", "bits of weights", scale="linear"),
    inside.Lines("activation_bits", "bits of activations", scale="linear"),
)


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `precision.{pdf,png}`: the three measures by step, a line per layer."""
    return inside.by_layer(tables, out, NAME, "precision", PANELS)
