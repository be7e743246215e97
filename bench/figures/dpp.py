"""Inside DPP: how sure each layer's selection becomes, how groups differ, what still changes."""

from __future__ import annotations

from pathlib import Path

from bench.figures import inside

NAME = "dpp"
METHODS = ("dpp",)
SHOWN = {
    "mask_confidence": "confidence of the mask",
    "diversity": "diversity of the groups",
    "turnover": "groups changed, %",
}
"""Columns of the event `selection` and the labels of their axes."""


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `dpp.{pdf,png}`: the three measures by epoch, a line per layer."""
    return inside.by_layer(tables, out, NAME, "selection", SHOWN, ("epoch", "epochs of the run"))
