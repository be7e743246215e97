"""Small multiples of lines: per place a panel for each family, every line named at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.figures import labels, page, style
from bench.figures.facets import Facet, facets

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

HEIGHT = 1.15
"""Inches of a panel within its axes, where three stand in a row."""
LETTERS = (14, 24, 10)
"""Letters in a line of a name, where one, two or three panels stand in a row."""
PALE = "#DCDCDC"
"""The other methods of a place."""
OTHERS = "other methods"
NOTHING = "No finished run of a pruned net to show."


class Place(NamedTuple):
    """One (dataset, arch, tier)."""

    title: str
    rows: pd.DataFrame
    """With `block`, `variant`, `family` and `score`; facets are made of them."""
    ylabel: str
    content: Any
    """What is drawn."""


Draw = Callable[["Axes", Any, tuple[str, ...]], list[labels.Name]]
"""Draws the content of a place with these variants in colour; the names at the ends of lines."""


def save(places: Sequence[Place], draw: Draw, xlabel: str, out: Path, name: str) -> list[Path]:
    """Write `<out>/<name>.{pdf,png}`."""
    panels = [(place, facet) for place in places for facet in facets(place.rows, len(places))]
    if len(panels) == len(places):  # one for each: they stand beside each other
        panels = [(place, facet._replace(title=place.title)) for place, facet in panels]
        blocks = [block("", panels, draw, xlabel)] if panels else []
    else:
        blocks = [
            block(place.title, [panel for panel in panels if panel[0] is place], draw, xlabel)
            for place in places
        ]
    width = page.WIDTH if len(panels) > 1 else style.COLUMN
    return page.save(blocks, out, name, NOTHING, width)


def block(title: str, panels: Sequence[tuple[Place, Facet]], draw: Draw, xlabel: str) -> page.Block:
    """The panels of a place, or one of each of many places, in rows."""
    columns = min(len(panels), 3 if len(panels) > 4 else 2)
    height, letters = HEIGHT * (1 if columns == 3 else 1.5), LETTERS[columns - 1]
    for _, facet in panels:  # as high as the names of any, one below the other
        names = [labels.wrapped(variant, letters) for variant in facet.variants]
        height = max(height, labels.LINE * labels.lines(names))
    rows = -(-len(panels) // columns)

    def fill(part: Any) -> None:
        grid = list(part.subplots(rows, columns, squeeze=False).flat)
        for spare in grid[len(panels) :]:
            spare.remove()
        for index, (axes, (place, facet)) in enumerate(zip(grid, panels, strict=False)):
            names = draw(axes, place.content, facet.variants)
            named = [name._replace(text=labels.wrapped(name.text, letters)) for name in names]
            labels.at_the_right(axes, named, height)
            axes.set_title(facet.title, loc="left")
            axes.set_xlabel(xlabel if index + columns >= len(panels) else "")
            axes.set_ylabel(place.ylabel if index % columns == 0 or not title else "")
        style.legend(part, grid[: len(panels)])

    return page.Block(title, (height + 0.45) * rows + 0.5, fill)
