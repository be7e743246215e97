"""Names beside what they name, so that no reader has to match marks with a legend."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

SIZE = 7.0
"""Points: the size of a name."""
LINE = 1.2 * SIZE / 72
"""Inches between two lines of names."""
ROW = 0.135
"""Inches between two rows that each have a name."""
LETTER = 0.06
"""Inches of a letter, on average."""
RADII = (5.0, 9.0, 14.0, 20.0, 28.0, 38.0, 50.0)
"""Points from a mark to its name; the nearest free place is taken."""

LEADER = {"arrowstyle": "-", "lw": 0.4, "color": "0.4", "shrinkA": 0.5, "shrinkB": 1.5}
"""The thin line from a name to its mark."""


class Name(NamedTuple):
    """A name for what stands at (`x`, `y`) in data coordinates."""

    text: str
    x: float
    y: float
    color: str = "black"


def wrapped(variant: str, width: int) -> str:
    """Lines of `width` letters, broken between parameters; where that is not enough, in names."""
    pieces = []
    for part in re.findall(r"[^(,]*[(,] ?|[^(,]+$", variant):
        fits = len(part.rstrip()) <= width
        pieces += [part] if fits else re.findall(r"[^_=]*[_=]|[^_=]+$", part)
    found = [""]
    for piece in pieces:
        if found[-1] and len(found[-1]) + len(piece.rstrip()) > width:
            found.append("")
        found[-1] += piece
    return "\n".join(line.rstrip() for line in found)


def width(texts: Iterable[str]) -> float:
    """Inches that the longest of these needs, about."""
    return LETTER * max(map(len, texts), default=0)


def lines(texts: Sequence[str]) -> int:
    """How many lines these names fill."""
    return sum(text.count("\n") + 1 for text in texts)


def at_the_right(axes: Axes, names: Sequence[Name], height: float) -> None:
    """Each name beside the end of its line, right of the panel and clear of the others.

    `height`: of the panel in inches, about; limits and scales of `axes` have to be set.
    """
    upwards = sorted(names, key=lambda name: (name.y, name.text))
    across = axes.transData + axes.transAxes.inverted()
    wanted = [float(across.transform((name.x, name.y))[1]) for name in upwards]
    sizes = [LINE * lines([name.text]) / height for name in upwards]
    gaps = [(below + above) / 2 for below, above in itertools.pairwise(sizes)]
    for name, place in zip(upwards, spread(wanted, gaps), strict=True):
        axes.annotate(
            name.text, (name.x, name.y), (1.05, place), textcoords="axes fraction", va="center",
            color=name.color, fontsize=SIZE, annotation_clip=False, linespacing=1.05,
            arrowprops=LEADER | {"color": name.color},
        )  # fmt: skip


def spread(wanted: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """Places in [0, 1] in the order of `wanted`, at least `gaps` apart, as near to it as can be.

    Least squares under these bounds: an isotonic regression of what is wanted less the gaps below.
    Gaps that do not fit shrink.
    """
    from scipy.optimize import isotonic_regression

    if not len(wanted):
        return []
    below = np.concatenate([[0.0], np.cumsum(gaps)])
    below *= min(1.0, 1 / max(below[-1], 1e-9))
    found = isotonic_regression(np.asarray(wanted, dtype=float) - below).x
    return [float(place) for place in np.clip(found, 0, 1 - below[-1]) + below]


def around(axes: Axes, names: Iterable[Name], marks: Sequence[tuple[float, float]]) -> list[Name]:
    """Write each name near its mark, over no other name and none of `marks`; the first ones win.

    Returns the names that found no place. The figure's layout is settled here, so this comes last.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    dots = axes.transData.transform(np.reshape(marks, (-1, 2)))
    taken: list[Bbox] = []
    left = []
    for name in names:
        for right, up in offsets():
            note = _note(axes, name, right, up)
            box = note.get_window_extent().padded(1.5 * figure.dpi / 72)
            note.remove()
            if _free(box, axes.bbox, taken, dots):
                _note(axes, name, right, up, arrowprops=LEADER)
                taken.append(box)
                break
        else:
            left.append(name)
    return left


def below(axes: Axes, values: Iterable[float]) -> None:
    """Say in the lower right corner how many means lie below the panel, if any does."""
    if cut := sum(value < axes.get_ylim()[0] for value in values):
        said = "1 mean lies below" if cut == 1 else f"{cut} means lie below"
        axes.text(0.99, 0.02, said, transform=axes.transAxes, ha="right", fontsize=SIZE)


def offsets() -> Iterator[tuple[float, float]]:
    """Points right and up of a mark: the nearest first, to the upper right before other sides."""
    for radius in RADII:
        for degrees in (45, 20, 70, 90, 0, 110, 135, 340, 315, 290, 270, 160, 180, 250, 225, 200):
            turned = math.radians(degrees)
            yield radius * math.cos(turned), radius * math.sin(turned)


def _note(axes: Axes, name: Name, right: float, up: float, **more: Any) -> Annotation:
    note = axes.annotate(
        name.text, (name.x, name.y), (right, up), textcoords="offset points", fontsize=SIZE,
        color=name.color, ha="left" if right > 1 else "right" if right < -1 else "center",
        va="bottom" if up > 1 else "top" if up < -1 else "center", **more,
    )  # fmt: skip
    note.set_in_layout(False)  # a name must not move what it was placed beside
    return note


def _free(box: Bbox, panel: Bbox, taken: list[Bbox], dots: np.ndarray) -> bool:
    inside = panel.x0 <= box.x0 and box.x1 <= panel.x1 and panel.y0 <= box.y0 and box.y1 <= panel.y1
    return inside and not box.count_overlaps(taken) and not box.count_contains(dots)
