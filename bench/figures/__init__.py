"""Figures from tidy tables: one script per figure, each with `draw(tables, out)`.

Style and marks are shared. Importing this package does not import matplotlib; drawing does.
"""

from __future__ import annotations

import importlib
from pathlib import Path

NAMES = ("accuracy_density", "accuracy_macs", "accuracy_latency", "controls", "curves")


def names() -> tuple[str, ...]:
    """Every figure there is."""
    return NAMES


def draw(name: str, tables_folder: Path, out_folder: Path) -> list[Path]:
    """Draw one figure from the tidy tables in `tables_folder`; its PDF and PNG in `out_folder`.

    Raises `ValueError` for a name that is not in `names()`, `bench.tidy.TidyError` when a table is
    missing.
    """
    if name not in NAMES:
        raise ValueError(f"no figure {name!r}; there are: {', '.join(NAMES)}")
    return importlib.import_module(f"bench.figures.{name}").draw(tables_folder, out_folder)
