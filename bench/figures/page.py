"""A page of blocks, one above the other: as a rule one per (dataset, arch, tier)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.figures import style
from bench.tables.cells import GROUP

if TYPE_CHECKING:
    import pandas as pd

WIDTH = 2 * style.COLUMN
MOST = 4
"""Densities that stand beside each other on a page."""


class Block(NamedTuple):
    """A part of a page: `draw` fills the figure that it is given, `height` inches high."""

    title: str
    height: float
    draw: Callable[[Any], None]


def save(
    blocks: Sequence[Block], out: Path, name: str, empty: str, width: float = WIDTH
) -> list[Path]:
    """Write `<out>/<name>.pdf` and `.png`; without a block a figure that says `empty`.

    `style.style()` has to be in force while blocks are drawn: it is set here.
    """
    if not blocks:
        return style.message(empty, out, name)
    with style.style():
        made = style.figure(width, sum(block.height for block in blocks))
        heights = [block.height for block in blocks]
        parts = made.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)
        for part, block in zip(parts.flat, blocks, strict=True):
            if block.title:
                part.suptitle(block.title, x=0.01, ha="left")
            block.draw(part)
        return style.save(made, out, name)


def places(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Title and rows of each (dataset, arch, tier); the tier is named where there are several."""
    several = table["tier"].nunique() > 1
    for (dataset, arch, tier), part in table.groupby(GROUP, sort=True):
        yield f"{dataset}, {arch}{f' ({tier} tier)' if several else ''}", part


def some(densities: Sequence[float], most: int = MOST) -> list[float]:
    """At most `most` of the densities, evenly chosen from the densest to the sparsest."""
    order = sorted(densities, reverse=True)
    if len(order) <= most:
        return order
    return [order[round(i * (len(order) - 1) / max(most - 1, 1))] for i in range(most)]
