"""The scorecard as a picture: each claim's numbers beside its bound, the claimed side shaded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.claims.scorecard import Row
from bench.claims.table import TITLES
from bench.claims.units import UNITS
from bench.claims.verdict import VERDICTS, Check, Verdict
from bench.claims.wording import short
from bench.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 2 * style.COLUMN + 0.2
LINE = 0.097
"""Inches: the height of a claim with up to four checks."""
TOP, BOTTOM = 0.56, 0.42
TITLE, LEFT, RIGHT, MARK = 0.152, 0.5, 0.765, 0.78
"""Of the width: where titles begin, where the strip of numbers begins and ends, and the verdict."""
LIMIT = 100.0
"""Steps: an interval is cut there, which is far from any bound."""
GREEN, ORANGE, BLUE, PURPLE = (style.COLOURS[i] for i in (2, 1, 0, 3))
DARK = "#6E6E6E"
EQUALS = "$=$"
SMALL: dict[str, Any] = {"fontsize": 6.0, "fontweight": "normal"}


class Sign(NamedTuple):
    """How a verdict looks: colour, mark, and whether the mark is full."""

    colour: str
    marker: str
    full: bool


SIGNS: dict[Verdict, Sign] = {
    "reproduced": Sign(GREEN, "o", True),
    "partly reproduced": Sign(BLUE, "^", True),
    "mixed": Sign(PURPLE, "P", True),
    "within noise": Sign(DARK, "D", False),
    "no difference made": Sign(DARK, EQUALS, True),
    "not reproduced": Sign(ORANGE, "X", True),
    "not reached here": Sign(DARK, "<", False),
    "not tested yet": Sign(style.GREY, "s", False),
    "not testable": Sign(style.GREY, "_", True),
}
POINTS = "points"
STEPS = {
    POINTS: POINTS,
    "times": "doublings",
    "correlation": "tenths",
    "index": "tenths",
    "share": "hundredths",
}
"""What a step of the axis is in each unit."""
GAP = 0.22
"""Lines between two methods."""
EDGE = 0.008


class Place(NamedTuple):
    """Where a claim stands, from the top, in lines."""

    row: Row
    y: float
    height: float
    opens: bool
    """Whether it is the first one of its method."""


def draw(rows: Sequence[Row], out: Path, name: str) -> list[Path]:
    """Write `<name>.{pdf,png}`: a line per claim, all its checks in it, and the verdict."""
    places, titles, end = arranged(rows)
    with style.style():
        height = TOP + LINE * end + BOTTOM
        made = style.figure(WIDTH, height)
        made.set_layout_engine("none")  # columns of text stand where they are put
        axes = made.add_axes((LEFT, BOTTOM / height, RIGHT - LEFT, LINE * end / height))
        strip(axes, end)
        for title, y in titles.items():
            words(made, axes, title, EDGE, y, fontsize=7.5, fontweight="bold")
        for place in places:
            claim(made, axes, place)
        legend(made, rows)
        return style.save(made, out, name)


def arranged(rows: Sequence[Row]) -> tuple[list[Place], dict[str, float], float]:
    """Each claim's place, each section's title with its place, and where the last one ends."""
    places: list[Place] = []
    titles: dict[str, float] = {}
    y, before = 0.0, ("", "")
    for row in rows:
        if row.section != before[0]:
            y += 0.9 * bool(places)
            titles[TITLES[row.section].capitalize()] = y + 0.6
            y += 1.3
        opens = row.method != before[1]
        y += GAP * opens
        height = max(1.0, 0.24 * len(row.checks))
        places.append(Place(row, y + height / 2, height, opens))
        y, before = y + height, (row.section, row.method)
    return places, titles, y + GAP


def strip(axes: Axes, end: float) -> None:
    """The scale, the bound, the shaded side."""
    axes.set_xscale("symlog", linthresh=1, linscale=0.7)
    axes.set(xlim=(-LIMIT, LIMIT), ylim=(end, 0))
    axes.axvspan(0, LIMIT, color=GREEN, alpha=0.08, lw=0)
    axes.axvline(0, color="black", lw=0.8, zorder=1)
    ticks = (-30, -5, -1, 0, 1, 5, 30)
    axes.set_xticks(ticks, [f"{tick:+d}" if tick else "bound" for tick in ticks])
    axes.set_yticks([])
    axes.minorticks_off()
    axes.tick_params(axis="x", top=True, labeltop=True, length=2, pad=1.5, labelsize=6)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("beyond the claim's bound, points (or what stands at the left)", fontsize=6.5)
    for x, text in ((0.25, "not as claimed"), (0.75, "as claimed")):
        at = axes.get_yaxis_transform()
        axes.text(x, 0.7, text, ha="center", va="center", transform=at, **SMALL)


def words(made: Figure, axes: Axes, text: str, x: float, y: float, **look: Any) -> None:
    """A text that begins at `x`, of the figure's width, on the line `y`."""
    from matplotlib.transforms import blended_transform_factory

    at = blended_transform_factory(made.transFigure, axes.transData)
    axes.text(x, y, text, transform=at, va="center", clip_on=False, **look)


def claim(made: Figure, axes: Axes, place: Place) -> None:
    """One claim: what it says, its checks, the verdict."""
    row, y, sign = place.row, place.y, SIGNS[place.row.verdict]
    if place.opens:
        axes.axhline(y - (place.height + GAP) / 2, color="#D8D8D8", lw=0.5, zorder=0)
        words(made, axes, row.method, EDGE, y, **SMALL | {"fontweight": "bold"})
    words(made, axes, row.claim.title, TITLE, y, **SMALL)
    tags = ", ".join(dict.fromkeys(tag(check) for check in row.checks))
    if tags != POINTS:
        words(made, axes, tags, LEFT - 0.005, y, fontsize=4.6, color=DARK, ha="right")
    for check, height in zip(row.checks, heights(place), strict=True):
        interval(axes, check, height, style.GREY if check.beside else sign.colour)
    mark(made, axes, y, sign)
    colour = DARK if sign.colour == style.GREY else sign.colour
    words(made, axes, short(row), MARK + 0.012, y, color=colour, **SMALL)


def tag(check: Check) -> str:
    """What a step of the axis is for this check."""
    return "layers" if check.region.low == check.region.high else STEPS[check.unit]


def heights(place: Place) -> Iterator[float]:
    """Of the checks of a claim, evenly spread over its height."""
    count = len(place.row.checks)
    step = 0.72 * place.height / max(count, 1)
    for number in range(count):
        yield place.y + (number - (count - 1) / 2) * step


def interval(axes: Axes, check: Check, y: float, colour: str) -> None:
    """One check: its interval and mean, full where it is decided, crossed where against.

    Two variants that end in the same nets have no interval; what is not reached has nothing.
    """
    if check.number.lack:
        if check.outcome == "same":
            axes.plot(0, y, marker=EQUALS, color=colour, ms=3.5, mew=0, zorder=3)
        return
    centre, low, high = (max(-LIMIT, min(LIMIT, x)) for x in beyond(check))
    axes.plot([low, high], [y, y], color=colour, lw=0.7, zorder=2, solid_capstyle="butt")
    face = "white" if check.outcome == "open" else colour
    shape = "X" if check.outcome == "no" else "o"
    axes.plot(centre, y, shape, color=colour, mfc=face, mew=0.5, ms=2.4, zorder=3)


def beyond(check: Check) -> tuple[float, float, float]:
    """How far beyond the claim's bound a number lies, in steps of its unit: mean, low, high."""
    step, region = UNITS[check.unit].step, check.region

    def inside(value: float) -> float:
        sides = [step(value) - step(region.low)] if math.isfinite(region.low) else []
        sides += [step(region.high) - step(value)] if math.isfinite(region.high) else []
        return min(sides)

    number = check.number
    ends = [inside(number.low), inside(number.high)]
    middle = (region.low + region.high) / 2
    if math.isfinite(middle) and number.low < middle < number.high:
        ends.append(inside(middle))
    return inside(number.estimate), min(ends), max(ends)


def mark(made: Figure, axes: Axes, y: float, sign: Sign) -> None:
    """A verdict's mark, right of the strip."""
    from matplotlib.transforms import blended_transform_factory

    at = blended_transform_factory(made.transFigure, axes.transData)
    axes.plot(MARK, y, transform=at, clip_on=False, **looks(sign, 3.8))


def looks(sign: Sign, size: float) -> dict[str, Any]:
    """The mark of a verdict as matplotlib wants it."""
    face = sign.colour if sign.full else "white"
    drawn = {"marker": sign.marker, "color": sign.colour, "markerfacecolor": face}
    edge = 0.0 if sign.marker == EQUALS else 0.8  # glyphs are outlines: an edge would fill them
    return drawn | {"markeredgewidth": edge, "markersize": size, "linestyle": ""}


def legend(made: Figure, rows: Sequence[Row]) -> None:
    """The verdicts with how many there are of each, as the table counts them, above all."""
    from matplotlib.lines import Line2D

    counts = Counter(row.verdict for row in rows if row.empirical)
    handles = [
        Line2D([], [], label=f"{verdict} {counts[verdict]}", **looks(SIGNS[verdict], 4.5))
        for verdict in VERDICTS
    ]
    made.legend(
        handles=handles,
        loc="upper center",
        ncols=(len(handles) + 1) // 2,
        columnspacing=1.2,
        handletextpad=0.2,
        borderaxespad=0.2,
    )
