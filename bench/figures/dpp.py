"""Inside DPP: how sure each layer's selection becomes, how groups differ, what still changes."""

from __future__ import annotations

from pathlib import Path

from bench.figures import inside

NAME = "dpp"
METHODS = ("dpp",)
EPOCHS = ("epoch", "epochs of the run")
PANELS = (
    inside.Lines("mask_confidence", "confidence of the mask", EPOCHS),
    inside.Lines("diversity", "diversity of the groups", EPOCHS),
    inside.Lines("turnover", "groups changed, %", EPOCHS),
)


def draw(tables: Path, out: Path) -> list[Path]:
    """Write `dpp.{pdf,png}`: the three measures by epoch, a line per layer."""
    return inside.by_layer(tables, out, NAME, "selection", PANELS)
